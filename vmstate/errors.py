"""Every error that `vmstate` raises on purpose, in one hierarchy."""


class VmStateError(Exception):
    """Base of all errors of `vmstate`."""


class InvalidTransitionError(VmStateError):
    """QEMU does not allow the machine to go from one run state to the other."""


class StartRefusedError(VmStateError):
    """The machine cannot be started in the run state that it is in."""


class NestedNotificationError(VmStateError, RuntimeError):
    """A handler tried to notify, start or stop the machine that is calling it."""


class BigLockError(VmStateError, RuntimeError):
    """The big lock was used in a way that would hang or break it."""


class RegistrationError(VmStateError, ValueError):
    """Something cannot be registered with this machine."""


class DeviceTreeError(VmStateError, ValueError):
    """Devices and buses cannot be connected in this way."""


class QtreeError(VmStateError, ValueError):
    """A text is not what QEMU's monitor prints for `info qtree`."""


class DeviceNotFoundError(VmStateError, LookupError):
    """No device, or more than one, answers to an id."""


class ClockError(VmStateError):
    """Base of what can go wrong with time itself."""
