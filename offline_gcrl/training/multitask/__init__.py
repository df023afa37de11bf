"""Training on several tasks: weights, sampling, conflicting gradients, and tasks one after another.

``losses`` takes a batch apart by tasks, ``gradients`` makes one gradient of several, ``sampling`` says how often
each task is drawn, ``forgetting`` holds on to what was learned, ``updates`` runs updates with them, and ``training``
is what a training run knows of it all. Without ``train.tasks`` and ``train.sequence`` none of it is used.
"""
