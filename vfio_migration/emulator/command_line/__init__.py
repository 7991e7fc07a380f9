"""The command line of a QEMU: which options there are, and what their arguments say."""
