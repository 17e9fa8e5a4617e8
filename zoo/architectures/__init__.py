"""One module per family: functions from a Net and normalised images [N, H, W, 3] to a feature map [N, H',
W', C].
"""
