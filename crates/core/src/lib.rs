//! AlexNet: tensors, devices, layers and the network.
