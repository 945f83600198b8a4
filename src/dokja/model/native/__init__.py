"""Kernels in C++ for CPU training, compiled once on the user's machine and loaded through ctypes."""
