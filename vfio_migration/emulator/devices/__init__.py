"""The devices of an emulated machine: which of them are VFIO devices, and what the others do in a migration."""
