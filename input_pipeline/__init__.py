"""From raw photographs and annotations to augmented batches.

The only package that imports tensorflow, and only inside the modules that need it, so that
`import input_pipeline` stays cheap.
"""
