//! AlexNet's operators as CUDA kernels, compiled at run time by NVRTC.
