"""From raw photographs and annotations to augmented batches.

The only package that imports tensorflow, and only inside the modules that need it, so that
`import input_pipeline` stays cheap.
"""

import os

# Before tensorflow is imported anywhere: with its oneDNN operations it announces them on stderr,
# more than once and whatever the log level. (One small blur is all there is for them here.)
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

IMAGE_SIZE = 256
"""Side of the square crop that the network sees, pixels."""
