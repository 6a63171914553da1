"""Parts of the synthetic studio behind `python -m input_pipeline.synthesize`.

Nothing here imports jax when imported, so that drawing processes start quickly.

  anatomy.py      axes of a hand and of its finger joints, from its rest pose
  gestures.py     finger poses: named postures and natural variation
  meetings.py     the ways in which two hands meet
  interaction.py  two hands placed about each other, pushed out of one another
  studio.py       captures: a subject, cloth, lights and a ring of cameras
  surface.py      finer hand meshes with skin, creases and nails
  body.py         forearms, sleeves and trunk
  light.py        lights with shadows
  backdrop.py     what is behind the person
  photograph.py   one picture of one scene through one camera
  scene.py        hands, arms and trunk of one moment, lit
  frame.py        one moment: place, light, photograph (what a drawing process does)
  posing.py       fingers posed with mano_jax (the only part that needs jax)
  types.py        what travels between the parts
  plan.py         which captures, sequences, frames and views there are
  layout.py       the official files
"""
