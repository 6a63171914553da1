"""Parts of the synthetic studio behind `python -m input_pipeline.synthesize`.

Nothing here imports jax when imported, so that drawing processes start quickly.

  gestures.py     axes of a hand; named postures of its fingers, and natural variation
  interaction.py  the ways in which two hands meet; hands pushed out of one another
  studio.py       captures: a subject, cloth, lights and a ring of cameras
  plan.py         which captures, sequences, frames and views there are; their posed hands
  surface.py      finer hand meshes with skin, creases and nails
  body.py         forearms, sleeves and trunk
  light.py        lights with shadows
  photograph.py   one picture of one scene through one camera, and what is behind
  frame.py        one moment: place, light, photograph (what a drawing process does)
  layout.py       the official files
"""
