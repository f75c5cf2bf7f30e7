"""Start the stages of a run from one process that has imported torch and the like once.

    python -P synthio/pipeline/forks.py serve NAME                      (run.sh starts it with its first stage)
    python -I -S synthio/pipeline/forks.py run NAME SCRIPT WORDS...     what `python SCRIPT WORDS...` does, sooner
    python -I -S synthio/pipeline/forks.py run NAME -m MODULE WORDS...

Importing torch, transformers and diffusers takes seconds, and a run has a dozen stages that do. The server imports them
and then only forks: a stage is still a script that runs in a process of its own, with the environment, the folder and
the streams of the one that asked for it, in its process group; it ends with it, and what it ends with is what that one
ends with. No module of ours is imported before a fork, so a stage runs the code of its own time. Where no server
answers, the script is run as usual.

NAME is that of an abstract socket, of which nothing is left on a disk; both ends check that the other is of the same
user, and a sum over this file in it keeps them apart where the file has changed since the server started. Who starts
the server sees to its end. Linux alone, and no GPU: a fork cannot use CUDA that its parent has looked at. This file
imports nothing of ours and, to ask, next to nothing of Python's: that takes 20 ms.
"""

import os
import signal
import socket
import struct
import sys

# What the stages that load models import, as far as the environment has it; the heaviest part first.
PRELOADED = (
    *("numpy", "pandas", "torch", "transformers", "scipy.stats", "scipy.signal", "soundfile"),
    *("transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer",),
    *("transformers.models.clap.modeling_clap", "transformers.models.clap.feature_extraction_clap"),
    *("transformers.models.roberta.tokenization_roberta", "transformers.models.t5.modeling_t5", "sklearn.linear_model"),
    *("diffusers.models.autoencoders.autoencoder_oobleck", "diffusers.models.transformers.stable_audio_transformer"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
)
LENGTH = struct.Struct("!Q")  # of a request: before it
STARTED = b"\1"  # what a child answers when it is in the process group of who asked
STATUS = struct.Struct("!i")  # of a child: below 0 the signal that ended it
CREDENTIALS = struct.Struct("3i")  # process, user, group: struct ucred of Linux
SET_PDEATHSIG, SET_NAME = 1, 15  # of prctl


def address(name: str) -> str:
    """The socket's, which only one of the same code finds."""
    from zlib import crc32

    with open(__file__, "rb") as stream:  # noqa: PTH123 # pathlib takes long to import
        return f"\0{name}-{crc32(stream.read()):08x}"


def is_mine(end: socket.socket) -> bool:
    """Whether the other end is of the same user."""
    given = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return CREDENTIALS.unpack(given)[1] == os.getuid()


def receive(end: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the other end has gone."""
    found = b""
    while len(found) < size and (piece := end.recv(min(size - len(found), 1 << 20))):
        found += piece
    return found


# ---- who asks


def run(name: str, words: "list[str]") -> int:
    """The status of a script that the server runs in our place; a signal that ended it ends us, too."""
    with socket.socket(socket.AF_UNIX) as end:
        try:
            end.connect(address(name))
            if not is_mine(end):
                raise ConnectionRefusedError
        except OSError:
            os.execv(sys.executable, [sys.executable, *words])
        variables = [f"{key}={value}" for key, value in os.environ.items()]
        parts = [str(len(words)), *words, os.getcwd(), *variables]  # noqa: PTH109
        request = b"\0".join(map(os.fsencode, parts))
        socket.send_fds(end, [LENGTH.pack(len(request))], [0, 1, 2])
        end.sendall(request)
        # until the script is in our process group, what is meant to end that group has to end us: then nothing starts
        if receive(end, len(STARTED)):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        answer = receive(end, STATUS.size)
    # without an answer the server was killed, and the script with it
    status = STATUS.unpack(answer)[0] if len(answer) == STATUS.size else -signal.SIGKILL
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


# ---- the server


def preload() -> None:
    """Import what takes long, as far as it is there; a thread of it would not be in a fork, so none is started."""
    import contextlib
    import gc
    import importlib
    import warnings

    os.environ.pop("MPLBACKEND", None)  # of a notebook; a child has the one that it asked with
    gc.disable()  # garbage is looked for in vain while thousands of modules are made
    with warnings.catch_warnings(action="ignore"):  # nobody reads them here
        for module in PRELOADED:
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    gc.enable()
    gc.freeze()  # a child looks through none of it, and shares its memory


class Request:
    """What who asks is: the words after its interpreter, its folder, environment and streams."""

    def __init__(self, words: "list[str]", folder: str, variables: "list[str]", streams: "list[int]") -> None:
        self.words, self.folder, self.streams = words, folder, streams
        self.environment = dict(pair.split("=", 1) for pair in variables)


def take(end: socket.socket) -> "Request | None":
    """What was asked for; None: it is no whole request."""
    head, streams, _, _ = socket.recv_fds(end, LENGTH.size, 3)
    size = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 0
    request = receive(end, size)
    if len(streams) < 3 or not size or len(request) < size:
        for stream in streams:
            os.close(stream)
        return None
    count, *parts = map(os.fsdecode, request.split(b"\0"))
    words, folder, variables = parts[: int(count)], parts[int(count)], parts[int(count) + 1 :]
    return Request(words, folder, variables, list(streams))


def become(request: Request, asked_by: int, server: int) -> None:
    """Be a process as `python SCRIPT` would be: in the group of who asked, with its streams; end with the server."""
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    prctl(SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    prctl(SET_NAME, os.fsencode(request.words[request.words[0] == "-m"].rpartition("/")[2])[:15])
    try:
        os.setpgid(0, os.getpgid(asked_by))
    except OSError:  # who asked has gone
        os._exit(1)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)


def execute(words: "list[str]") -> None:
    """Run a script, or -m and a module, as the main one of this process."""
    import runpy

    if words[0] == "-m":
        sys.argv, sys.path[:0] = words[1:], [os.getcwd()]  # noqa: PTH109
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = words, [os.path.dirname(os.path.abspath(words[0]))]  # noqa: PTH100, PTH120
        runpy.run_path(words[0], run_name="__main__")


class Server:
    """Forks for who connects, and tells each how its child has ended."""

    def __init__(self, name: str) -> None:
        import selectors

        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(address(name))
        self.listener.listen()  # who comes while we import waits no longer than it would have taken to import
        self.woken, self.wakes = socket.socketpair()
        self.wakes.setblocking(False)
        self.ready = selectors.DefaultSelector()
        for source in (self.listener, self.woken):
            self.ready.register(source, selectors.EVENT_READ)
        self.children: dict[int, socket.socket] = {}

    def serve(self) -> "list[str]":
        """Never ends, but in a child: there it returns the words of its script."""
        signal.set_wakeup_fd(self.wakes.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the driver ends its jobs
        while True:
            for key, _ in self.ready.select():
                if key.fileobj is self.listener:
                    if words := self.answer(self.listener.accept()[0]):
                        return words
                elif key.fileobj is self.woken:
                    self.woken.recv(4096)
                    self.tell_ended()
                else:
                    self.end_child(key.fileobj)

    def answer(self, end: socket.socket) -> "list[str] | None":
        """Fork. In the child: the words of its script, once it is as who asked. In the server: None."""
        request = take(end) if is_mine(end) else None
        if request is None:
            end.close()
            return None
        server = os.getpid()
        asked_by, _, _ = CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        pid = os.fork()
        if not pid:
            become(request, asked_by, server)
            try:
                end.sendall(STARTED)
            except OSError:
                os._exit(1)
            for one in (self.listener, self.woken, self.wakes, end, *self.children.values()):
                one.close()
            self.ready.close()
            return request.words
        for stream in request.streams:
            os.close(stream)
        self.children[pid] = end
        self.ready.register(end, 1)
        return None

    def tell_ended(self) -> None:
        """Tell those whose children have ended how they did."""
        import contextlib

        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            end = self.children.pop(pid)
            if end in self.ready.get_map():
                self.ready.unregister(end)
            with contextlib.suppress(OSError):  # it has gone
                end.sendall(STATUS.pack(os.waitstatus_to_exitcode(status)))
            end.close()

    def end_child(self, end) -> None:
        """Who asked has gone, and so must its child."""
        self.ready.unregister(end)
        for pid, other in self.children.items():
            if other is end:
                os.kill(pid, signal.SIGKILL)


def main() -> None:
    action, name, *words = sys.argv[1:]
    if action == "run":
        sys.exit(run(name, words))
    server = Server(name)
    preload()
    execute(server.serve())


if __name__ == "__main__":
    main()
