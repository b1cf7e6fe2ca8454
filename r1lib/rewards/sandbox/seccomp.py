"""A filter of system calls that no answer to a programming task needs, as the kernel takes it: classic BPF, see seccomp(2).

Namespaces hide files and the network, but a program could still fork without end or fill the memory of the machine behind the back of the
limits for one process (shared memory, files in memory). It gets EPERM for these calls instead; threads work.
"""

import platform
import struct

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}         # AUDIT_ARCH_*, column of the table below
_CLONE, _CLONE3, _CLONE_THREAD = (56, 220), (435, 435), 0x10000
# name: number on x86_64, on aarch64; None where there is none (asm/unistd_64.h, asm-generic/unistd.h)
_FORBIDDEN = {
    "fork": (57, None), "vfork": (58, None), "socket": (41, 198), "ptrace": (101, 117), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "memfd_create": (319, 279), "memfd_secret": (447, 447), "unshare": (272, 97),
    "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "kexec_load": (246, 104),
    "init_module": (175, 105), "finit_module": (313, 273), "fanotify_init": (300, 262), "inotify_init1": (294, 26),
}
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06       # BPF_LD|W|ABS, BPF_JMP|JEQ, JGE, JSET, BPF_RET
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_X32 = 0x40000000                  # system calls of another ABI of the same architecture have this bit


def program() -> bytes | None:
    """The filter for this machine, None where we know no numbers."""
    if platform.machine() not in _ARCHITECTURES:
        return None
    architecture, column = _ARCHITECTURES[platform.machine()]
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0),
             (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _EPERM),
             (_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _ENOSYS)]             # its flags are out of sight; libc falls back to clone
    for numbers in _FORBIDDEN.values():
        if numbers[column] is not None:
            lines += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _EPERM)]
    lines += [(_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, 16), (_ANY_BIT, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, _EPERM),
              (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
