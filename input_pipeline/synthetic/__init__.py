"""Parts of the synthetic studio behind `python -m input_pipeline.synthesize`.

Nothing here imports jax or tensorflow, so that drawing processes start quickly.

  anatomy.py      axes of a hand and of its finger joints, from its rest pose
  gestures.py     finger poses: named postures and natural variation
  interaction.py  two hands placed about each other, pushed out of one another
  studio.py       captures: a subject, cloth, lights and a ring of cameras
  surface.py      finer hand meshes with skin, creases and nails
  body.py         forearms, sleeves and trunk
  light.py        lights with shadows
  backdrop.py     what is behind the person
  photograph.py   one picture of one scene through one camera
  frame.py        one moment: place, light, photograph, annotate (what a drawing process does)
  plan.py         which captures, sequences, frames and views there are
  layout.py       the official files
"""
