"""Programs that mean harm. Each says BREACH where it got what it wanted; `reasons` are the names its end may bear.

`{canary}` is a file of the host with a secret in it, `{folder}` its folder, `{port}` a listener on this machine's
loopback, `{pid}` a process of the host. They are filled in by `text.replace`, so braces of Python stay as they are.
"""

# ruff: noqa: E501 - tables of programs

from __future__ import annotations

from dataclasses import dataclass

SAID = "print('BREACH')"


@dataclass(frozen=True)
class Hostile:
    """One attack."""

    name: str
    source: str
    reasons: frozenset[str]
    wall: float = 30.0
    """seconds by the clock; only those that wait for it need few"""


def _many(family: str, reasons: str, sources: list[str], seconds: float = 30.0) -> list[Hostile]:
    return [Hostile(f"{family}-{n:02d}", s, frozenset(reasons.split()), seconds) for n, s in enumerate(sources)]


def _forks() -> list[Hostile]:
    spawn = "for n in range(300):\n    {}\n" + SAID
    calls = [
        "os.fork()",
        "os.fork() or os.setsid()",
        "os._exit(0) if os.fork() == 0 else None",
        "os.posix_spawn('/usr/bin/env', ['env'], {})",
        "os.forkpty()",
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
        "subprocess.run(['/usr/bin/true'], check=True)",
        "multiprocessing.get_context('fork').Process(target=print).start()",
        "multiprocessing.get_context('spawn').Process(target=print).start()",
        "assert libc.syscall(57) >= 0, OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())).strerror",
        "assert libc.syscall(58) >= 0, os.strerror(ctypes.get_errno())",
        "assert libc.syscall(56, 17, 0, 0, 0, 0) >= 0, os.strerror(ctypes.get_errno())",
        "assert libc.syscall(435, 0, 88) >= 0, os.strerror(ctypes.get_errno())",
        "assert libc.fork() >= 0, os.strerror(ctypes.get_errno())",
        "assert libc.system(b'true') == 0, os.strerror(11)",
        "assert os.system('true') == 0, os.strerror(11)",
        "os.popen('true').read()",
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "concurrent.futures.ProcessPoolExecutor(2).submit(print).result(2)",
        "_thread.start_new_thread(time.sleep, (60,))",
    ]
    head = (
        "import concurrent.futures, ctypes, multiprocessing, os, subprocess, sys, threading, time, _thread\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
    )
    return _many("fork", "processes failed files memory time network", [head + spawn.format(c) for c in calls])


def _memory() -> list[Hostile]:
    grow = [
        "x = []\nwhile True: x.append(bytes(1 << 20))",
        "x = []\nwhile True: x += [0] * (1 << 16)",
        "x = bytearray()\nwhile True: x += b'x' * (1 << 22)",
        "x = 'x'\nwhile True: x += x",
        "x = {}\nwhile True: x[len(x)] = str(len(x)) * 100",
        "x = set()\nwhile True: x.add(len(x))",
        "x = [0] * (1 << 40)",
        "x = bytearray(1 << 40)",
        "x = bytes(1 << 34)",
        "import mmap\nx = [mmap.mmap(-1, 1 << 20) for _ in range(1 << 14)]\nfor m in x: m.write(b'x' * (1 << 20))",
        "import mmap\nx = mmap.mmap(-1, 1 << 33)\nfor n in range(0, 1 << 33, 4096): x[n] = 1",
        "import array\nx = array.array('q', [0]) * (1 << 33)",
        "import itertools\nx = list(itertools.product(range(100), repeat=5))",
        "x = [[]]\nwhile True: x = [x, x, list(range(10000))] + x",
        "import collections\nx = collections.deque()\nwhile True: x.append(bytearray(1 << 16))",
        "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, b'x' * (1 << 20))",
        "import ctypes\nx = [ctypes.create_string_buffer(1 << 20) for _ in range(1 << 14)]",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1) + 1\nf(0)",
        "x = 7\nwhile True: x = x * x",
        "import io\nx = io.BytesIO()\nwhile True: x.write(b'x' * (1 << 20))",
        "import json\nx = json.loads('[' * 100000 + ']' * 100000)",
        "import zlib\nz = zlib.compress(b'0' * (1 << 26), 9)\nx = [zlib.decompress(z) for _ in range(64)]",
    ]
    return _many("memory", "memory time crashed failed disk", [g + "\n" + SAID for g in grow[:-2]] + [
        "import json\njson.loads('[' * 100000 + ']' * 100000)",
        grow[-1] + "\n" + SAID,
    ])  # fmt: skip


def _reads() -> list[Hostile]:
    paths = [
        "{canary}", "/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/hosts", "/root/.bashrc", "/root/.profile",
        "/proc/1/environ", "/proc/1/cmdline", "/proc/self/environ", "/proc/self/root/etc/passwd",
        "/proc/self/cwd/../../etc/passwd", "/proc/cpuinfo", "/proc/mounts", "/sys/kernel/version", "/dev/mem", "/dev/kmsg",
        "/dev/sda", "/dev/vda", "/var/log/syslog", "../../../../etc/passwd", "/scratch/../etc/passwd", "/run/secrets",
    ]  # fmt: skip
    plain = [f"print(open({p!r}, 'rb').read(10))\n{SAID}" for p in paths]
    ways = [
        "import os\nprint(os.read(os.open('{canary}', os.O_RDONLY), 99))",
        "import os\nprint(os.read(os.open('{canary}', os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), 99))",
        "import pathlib\nprint(pathlib.Path('{canary}').read_text())",
        "import shutil\nprint(open(shutil.copy('{canary}', 'copy')).read())",
        "import mmap, os\nf = os.open('{canary}', os.O_RDONLY)\nprint(mmap.mmap(f, 0, prot=mmap.PROT_READ)[:])",
        "import os\nprint(os.listdir('{folder}'))",
        "import os\nprint(os.listdir('/home'), os.listdir('/root/.ssh'))",
        "import os\nfound = [f for _, _, fs in os.walk('{folder}') for f in fs]\nassert found, 'FileNotFoundError'\nprint(found)",
        "import os\nd = os.open('{folder}', os.O_RDONLY | os.O_DIRECTORY)\nprint(os.read(os.open('canary', os.O_RDONLY, dir_fd=d), 99))",
        "import os\nos.chdir('{folder}')\nprint(open('canary').read())",
        "import linecache\nassert linecache.getline('{canary}', 1), 'PermissionError'\nprint(linecache.getline('{canary}', 1))",
        "import runpy\nrunpy.run_path('{canary}')",
        "import os\nos.execv('/bin/cat', ['cat', '{canary}'])",
        "import os\nos.execv('/usr/bin/cat', ['cat', '{canary}'])",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nf = libc.open(b'{canary}', 0)\nassert f >= 0, 'PermissionError'",
        "import fileinput\nprint(list(fileinput.input('{canary}')))",
        "import tarfile\ntarfile.open('t.tar', 'w').add('{canary}')",
        "for n in range(3, 64):\n    import os\n    try: print(os.read(n, 99)); print('BREACH')\n    except OSError: pass\nraise PermissionError('none open')",
    ]
    return _many("read", "files failed", plain + [f"{w}\n{SAID}" for w in ways[:-1]] + [ways[-1]])


def _links() -> list[Hostile]:
    sources = [
        "os.symlink('{canary}', 'l'); print(open('l').read())",
        "os.symlink('{folder}', 'd'); print(os.listdir('d'))",
        "os.symlink('/', 'root'); print(open('root/etc/passwd').read())",
        "os.symlink('../' * 20 + 'etc/passwd', 'l'); print(open('l').read())",
        "os.symlink('a', 'b'); os.symlink('{canary}', 'a'); print(open('b').read())",
        "os.link('{canary}', 'hard'); print(open('hard').read())",
        "os.link('/etc/passwd', 'hard'); print(open('hard').read())",
        "os.symlink('{canary}', 'l'); open('l', 'w').write('x')",
        "os.symlink('{folder}/new', 'l'); open('l', 'w').write('x')",
        "os.symlink('/proc/self/root', 'r'); print(open('r/etc/passwd').read())",
        "os.mkdir('d'); os.symlink('{folder}', 'd/x'); os.rename('d', 'e'); print(open('e/x/canary').read())",
        "os.symlink('l', 'l'); print(open('l').read())",
    ]
    return _many("link", "files failed", [f"import os\n{s}\n{SAID}" for s in sources])


def _writes() -> list[Hostile]:
    sources = [
        "open('{canary}', 'w').write('x')",
        "open('{canary}', 'r+b').truncate(0)",
        "open('{folder}/new', 'w').write('x')",
        "os.unlink('{canary}')",
        "os.rename('{canary}', 'mine')",
        "os.chmod('{canary}', 0)",
        "os.mkdir('{folder}/d')",
        "os.rmdir('{folder}')",
        "os.utime('{canary}')",
        "open('/etc/passwd', 'a').write('x')",
        "open('/usr/lib/x', 'w').write('x')",
        "open('/var/tmp/dokja-hostile', 'w').write('x'); assert False, 'PermissionError'",
        "open(os.__file__, 'a').write('x')",
        "open('/dev/sda', 'wb').write(b'x')",
        "open('/proc/sys/kernel/panic', 'w').write('1')",
        "os.mknod('/scratch/disk', 0o60666, os.makedev(8, 0)); os.open('/scratch/disk', os.O_RDWR)",
        "shutil.rmtree('{folder}')",
        "shutil.move('main.py', '{folder}/main.py')",
    ]
    return _many("write", "files failed processes", [f"import os, shutil\n{s}\n{SAID}" for s in sources])


def _network() -> list[Hostile]:
    sources = [
        "socket.create_connection(('127.0.0.1', {port}), 1)",
        "socket.create_connection(('localhost', {port}), 1)",
        "socket.socket().connect(('127.0.0.1', {port}))",
        "socket.socket(socket.AF_INET6).connect(('::1', {port}))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
        "socket.socket(socket.AF_UNIX).connect('\\0dokja')",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket(40, socket.SOCK_STREAM)",
        "socket.create_server(('0.0.0.0', 0))",
        "socket.getaddrinfo('localhost', 80)",
        "socket.gethostbyname('localhost')",
        "urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=1)",
        "http.client.HTTPConnection('127.0.0.1', {port}, timeout=1).request('GET', '/')",
        "smtplib.SMTP('127.0.0.1', {port}, timeout=1)",
        "ftplib.FTP().connect('127.0.0.1', {port}, timeout=1)",
        "asyncio.run(asyncio.open_connection('127.0.0.1', {port}))",
        "xmlrpc.client.ServerProxy('http://127.0.0.1:{port}').x()",
        "assert libc.socket(2, 1, 0) >= 0, os.strerror(ctypes.get_errno())",
        "assert libc.syscall(41, 2, 1, 0) >= 0, os.strerror(ctypes.get_errno())",
        "assert libc.syscall(425, 8, ctypes.create_string_buffer(120)) >= 0, os.strerror(ctypes.get_errno())",
    ]
    head = (
        "import asyncio, ctypes, ftplib, http.client, os, smtplib, socket, urllib.request, xmlrpc.client\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
    )
    return _many("network", "network failed files processes crashed", [f"{head}{s}\n{SAID}" for s in sources])


def _output() -> list[Hostile]:
    sources = [
        "while True: print('x' * 1000)",
        "while True: print('x', end='')",
        "while True: sys.stderr.write('x' * 1000)",
        "while True: os.write(1, b'x' * 65536)",
        "while True: os.write(2, b'x' * 65536)",
        "while True: print('x' * 100); sys.stderr.write('y' * 100)",
        "print('x' * (1 << 26))",
        "sys.stdout.buffer.write(b'\\0' * (1 << 26))",
        "os.dup2(1, 5)\nwhile True: os.write(5, b'x' * 4096)",
        "for n in range(10**9): print(n)",
        "sys.stdout = sys.stderr\nwhile True: print('가' * 500)",
        "import traceback\nwhile True: traceback.print_stack()",
    ]
    return _many("output", "output", [f"import os, sys\n{s}" for s in sources])


def _disk() -> list[Hostile]:
    sources = [
        "open('f', 'wb').write(b'x' * (1 << 26))",
        "f = open('f', 'wb')\nwhile True: f.write(b'x' * 65536); f.flush()",
        "for n in range(10**6): open(f'f{n}', 'wb').write(b'x' * 65536)",
        "for n in range(10**6): open(f'f{n}', 'w').close(); os.truncate(f'f{n}', 0); open(f'f{n}', 'w').write('x' * 4096)",
        "f = os.open('f', os.O_CREAT | os.O_RDWR)\nos.posix_fallocate(f, 0, 1 << 40)",
        "f = open('f', 'wb'); f.seek(1 << 40); f.write(b'x'); f.flush()",
        "open('g', 'w').close(); os.truncate('g', 1 << 40)",
        "files = [open(f'f{n}', 'w') for n in range(10000)]",
        "while True: open('f', 'ab').write(b'x' * (1 << 20))",
        "shutil.copyfileobj(open('/dev/zero', 'rb'), open('f', 'wb'))",
        "for n in range(64): shutil.copy('main.py', f'c{n}'); open(f'c{n}', 'ab').write(b'x' * (1 << 20))",
    ]
    return _many("disk", "disk memory time crashed failed", [f"import os, shutil\n{s}\n{SAID}" for s in sources])


def _time() -> list[Hostile]:
    sources = [
        "while True: pass",
        "import time\ntime.sleep(999)",
        "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')",
        "import threading\nthreading.Event().wait()",
        "import threading\nl = threading.Lock(); l.acquire(); l.acquire()",
        "import signal\nsignal.pause()",
        "import os\nr, w = os.pipe(); os.read(r, 1)",
        "import select\nselect.select([], [], [])",
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",
        "import signal\nsignal.alarm(0)\nwhile True: signal.setitimer(signal.ITIMER_REAL, 0)",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import atexit\natexit.register(lambda: [None for _ in iter(int, 1)])",
        "class X:\n    def __del__(self):\n        while True: pass\nx = X(); del x",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()",
        "print(sum(range(10**12)))",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    ]
    return _many("time", "time processes files memory finished", sources, seconds=1.5)


def _signals() -> list[Hostile]:
    head = "import ctypes, fcntl, os, signal, sys, threading\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    checked = "\nassert {0} == 0, os.strerror(ctypes.get_errno())"
    sources = [
        "os.kill({pid}, 9)",
        "os.kill({pid}, signal.SIGSTOP)",
        "os.kill({pid}, 0)",
        "os.killpg({pid}, 9)",
        "os.kill(-1, 9)",
        "os.kill(-1, signal.SIGTERM)",
        "os.kill(1, 9); os.kill(2**22 - 5, 9)",
        "os.kill(os.getppid(), 9); raise ProcessLookupError",
        "os.kill(os.getppid(), signal.SIGSTOP); raise ProcessLookupError",
        "os.killpg(0, 9)",
        "os.kill(os.getpid(), 9)",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "os.abort()",
        "signal.raise_signal(signal.SIGTERM)",
        "signal.pidfd_send_signal(os.pidfd_open({pid}), 9)",
        "fcntl.fcntl(0, fcntl.F_SETOWN, {pid})",
        "fcntl.ioctl(0, 0x5412, b'x')",
        checked.format("libc.syscall(200, {pid}, 9)"),
        checked.format("libc.syscall(234, {pid}, {pid}, 9)"),
        checked.format("libc.syscall(129, {pid}, 9, ctypes.create_string_buffer(128))"),
        "os.setpriority(os.PRIO_PROCESS, {pid}, 19)",
        "os.sched_setaffinity({pid}, {0})",
    ]
    reasons = "processes failed crashed files network time finished"
    return _many("signal", reasons, [f"{head}{s}\n" for s in sources])


def _calls() -> list[Hostile]:
    head = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    numbers = {
        "ptrace": "101, 0, 0, 0, 0", "mount": "165, b'none', b'/scratch', b'tmpfs', 0, 0", "umount": "166, b'/usr', 2",
        "pivot_root": "155, b'/', b'/scratch'", "chroot": "161, b'/scratch'", "unshare": "272, 0x10000000",
        "unshare net": "272, 0x40000000", "setns": "308, 0, 0", "bpf": "321, 0, 0, 0", "perf": "298, 0, 0, 0, 0, 0",
        "userfaultfd": "323, 0", "keyctl": "250, 0, 0", "add_key": "248, 0, 0, 0, 0, 0", "kexec": "246, 0, 0, 0, 0",
        "init_module": "175, 0, 0, 0", "finit_module": "313, 0, 0, 0", "delete_module": "176, 0, 0",
        "reboot": "169, 0xfee1dead, 672274793, 0x1234567", "swapon": "167, 0, 0", "open_by_handle": "304, 0, 0, 0",
        "settimeofday": "164, 0, 0", "sethostname": "170, b'x', 1", "quotactl": "179, 0, 0, 0, 0", "iopl": "172, 3",
        "syslog": "103, 3, 0, 0", "process_vm_readv": "310, 1, 0, 0, 0, 0, 0", "process_vm_writev": "311, 1, 0, 0, 0, 0, 0",
        "clone into a user namespace": "56, 0x10000011, 0, 0, 0, 0", "open_tree": "428, 0, b'/', 1", "fsopen": "430, b'ext4', 0",
        "the other table": "1073741865, 2, 1, 0",
    }  # fmt: skip
    sources = [f"{head}libc.syscall({a})\n{SAID}" for a in numbers.values()]
    return _many("call", "system_call", sources)


def _rights() -> list[Hostile]:
    sources = [
        "os.setuid(0)",
        "os.setgid(0); os.setgroups([0])",
        "os.setresuid(0, 0, 0)",
        "open('s', 'w').write('#!'); os.chown('s', 0, 0)",
        "os.execv('/usr/bin/su', ['su', '-c', 'id'])",
        "os.execv('/usr/bin/sudo', ['sudo', 'id'])",
        "os.chroot('.')",
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
        "resource.setrlimit(resource.RLIMIT_CORE, (1 << 40, 1 << 40))",
        "os.nice(-20)",
        "ctypes.CDLL(None).prctl(22, 0, 0, 0, 0); open('/etc/passwd').read()",
        "os.setsid(); open('/dev/tty').read()",
    ]
    reasons = "processes files failed system_call"
    return _many(
        "right", reasons, [f"import ctypes, os, resource\nwas = os.getuid()\n{s}\nassert was\n{SAID}" for s in sources]
    )


HOSTILE: list[Hostile] = [
    *_forks(), *_memory(), *_reads(), *_links(), *_writes(), *_network(), *_output(), *_disk(), *_time(), *_signals(),
    *_calls(), *_rights(),
]  # fmt: skip
FAMILIES = sorted({h.name.rsplit("-", 1)[0] for h in HOSTILE})
