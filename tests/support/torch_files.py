"""Writes checkpoints as torch.save does, without torch, in both of its formats, hostile ones included."""

import io
import pickle
import zipfile
from collections import OrderedDict


class Global:
    """Pickles as a reference to module.name called with arguments, importing nothing here."""

    def __init__(self, module, name, *args):
        self.module, self.name, self.args = module, name, args


class Pickler(pickle._Pickler):
    """Writes pickles with any global and with torch's storage records."""

    def save_global_by_name(self, module, name):
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.save_global_by_name(obj.module, obj.name)
            if obj.args or obj.args == ():
                self.save(obj.args)
                self.write(pickle.REDUCE)
        elif isinstance(obj, tuple) and obj[:1] == ("storage",):
            self.write(pickle.MARK)
            self.save("storage")
            self.save_global_by_name("torch", obj[1])
            for part in obj[2:]:
                self.save(part)
            self.write(pickle.TUPLE + pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


def tensor(key, shape, strides, *, offset=0, storage="FloatStorage", numel=64, view=()):
    record = ("storage", storage, key, "cpu", numel, *view)
    return Global("torch._utils", "_rebuild_tensor_v2", record, offset, shape, strides, False, OrderedDict())


def write(path, content, storages=None, *, order=b"little"):
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", buffer.getvalue())
        archive.writestr("model/byteorder", order)
        for key, values in (storages or {}).items():
            archive.writestr(f"model/data/{key}", values.tobytes())
    return path


def write_legacy(path, content, storages, *, order=None):
    """The same in the format before torch 1.6: pickles one behind the other, then each storage with its count."""
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": order is None}):
            pickle.dump(part, file, protocol=2)
        Pickler(file, protocol=2).dump(content)
        pickle.dump(list(storages), file, protocol=2)
        for values in storages.values():
            file.write(values.size.to_bytes(8, "little") + values.tobytes())
    return path
