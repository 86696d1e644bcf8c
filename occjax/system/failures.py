"""Failures outside the program, each in a line: what cannot be read or written, no room, no memory, no device."""

import errno
import os
import pwd
import re
import shutil
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from occjax.errors import UserError

_AGAIN = "then run the same command again"
# Where a command has no field of its own that would help.
DEVICE_REMEDY = "JAX_PLATFORMS=cpu computes in this machine's memory instead"
_HOST_MEMORY = (
    "this machine has no memory for that ({}); lower the batch size, data.workers and data.prefetch, or --workers of a "
    "converter, or end other programs"
)


def told(error: BaseException, *, device_remedy: str = DEVICE_REMEDY) -> str | None:
    """One line on an error whose cause lies outside the program, with a remedy; None for a defect of the program.

    `device_remedy` is the command's, where an accelerator has no memory.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return _HOST_MEMORY.format(_shortened(str(error)) or "out of memory")
    if isinstance(error, OSError):
        # One without a number and a file is no failure of the system's: a time that somebody's code has set, say.
        return None if isinstance(error, TimeoutError) and error.errno is None else _os_error(error)
    if isinstance(error, BrokenProcessPool):
        return f"a worker process died, most likely for want of memory; use fewer workers, {_AGAIN}"
    if isinstance(error, RuntimeError | AssertionError):
        return _of_a_device(error, device_remedy)
    return None


def _of_a_device(error: Exception, remedy: str) -> str | None:
    text = str(error)
    # jax is not asked: commands that compute nothing do not import it.
    if type(error).__name__ in ("XlaRuntimeError", "JaxRuntimeError") and text.startswith("RESOURCE_EXHAUSTED"):
        asked = _shortened(text.removeprefix("RESOURCE_EXHAUSTED: "))
        return (
            f"the device has no room for that ({asked}{_device_bytes()}); {remedy}. Where another program uses the "
            "device too: XLA_PYTHON_CLIENT_MEM_FRACTION says what part of it jax takes"
        )
    # It is also how jax says that a plugin has no device, which is a bare assertion then.
    if "Unable to initialize backend" in text or (isinstance(error, AssertionError) and _is_of(error, "xla_bridge")):
        return _no_device(error)
    if "can't start new thread" in text:
        return f"the system starts no more threads for this user; end other programs or raise `ulimit -u`, {_AGAIN}"
    return None


def _is_of(error: Exception, module: str) -> bool:
    """Whether a file of this name raised it."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).stem == module


def _device_bytes() -> str:
    """What a device holds in all, where it says so."""
    jax = sys.modules.get("jax")
    try:
        stats = jax and jax.local_devices()[0].memory_stats()
        return f"; it has {stats['bytes_limit'] / 1e9:.1f} GB in all" if stats else ""
    except (RuntimeError, KeyError):
        return ""


def _no_device(error: Exception) -> str:
    """The line where jax has no device of the platform that is asked for."""
    wanted = os.environ.get("JAX_PLATFORMS", "")
    asked = f"JAX_PLATFORMS={wanted} asks for devices" if wanted else "jax asks for devices"
    return (
        f"{asked} that are not there ({_shortened(str(error)) or 'jax lacks that platform'}); leave JAX_PLATFORMS out "
        "to take what there is, or for an NVIDIA GPU: pip install -e '.[cuda12]' and see that nvidia-smi lists it"
    )


def _os_error(error: OSError) -> str | None:
    number, path = error.errno, error.filename
    # numpy and others raise it with words alone.
    reason = error.strerror or _shortened(" ".join(map(str, error.args))) or type(error).__name__
    where = f" {os.fsdecode(path)}" if isinstance(path, str | bytes | os.PathLike) else ""
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"cannot write{where}: {reason}{_free(where.strip())}; make room there, {_AGAIN}"
    if number in (errno.EACCES, errno.EPERM):
        return (
            f"no permission for{where or ' a file'}{_owner(where.strip())}; change its mode or name another, {_AGAIN}"
        )
    if number == errno.EROFS:
        return f"cannot write{where}: its file system is read-only; name a folder elsewhere"
    if number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP):
        return f"{reason}:{where or ' a file'}; see that the path is right and nobody else changes it, {_AGAIN}"
    if number in (errno.EMFILE, errno.ENFILE):
        return f"too many open files{where and ' at' + where}; raise `ulimit -n`, or lower data.workers, {_AGAIN}"
    if number in (errno.ENOMEM, errno.EAGAIN):
        return _HOST_MEMORY.format(reason)
    return f"cannot read or write{where}: {reason}; see to the disk, {_AGAIN}"


def _free(path: str) -> str:
    folder = next((p for p in (Path(path), *Path(path).parents) if p.is_dir()), None) if path else None
    return "" if folder is None else f" ({shutil.disk_usage(folder).free / 1e6:.1f} MB free in {folder})"


def _owner(path: str) -> str:
    """Whose the first thing on the way is that this user may not enter, or the thing itself."""
    for at in [*reversed(Path(path).absolute().parents), Path(path).absolute()] if path else []:
        try:
            found = at.stat()
        except OSError:
            break
        is_allowed = os.access(at, os.X_OK) if at.is_dir() and at != Path(path).absolute() else False
        if is_allowed:
            continue
        mode = f"{found.st_mode & 0o777:o}"
        return f": {at} belongs to {_name(found.st_uid)}, mode {mode}, and this is {_name(os.geteuid())}"
    return ""


def _name(user: int) -> str:
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:  # in a container, say
        return f"user {user}"


def _shortened(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:200]
