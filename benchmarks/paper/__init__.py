"""Reference reproduction of the MERA paper on CIFAR-10: network, training, table, and past it.

Paper: Hallam et al., Compact neural networks based on the multiscale entanglement renormalization
ansatz, arXiv:1711.03357, in the version submitted to ICLR 2018. docs/paper.md holds the results.
"""
