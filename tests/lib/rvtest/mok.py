"""A key as DKMS makes one for Secure Boot, and what is signed with it."""

import subprocess
import tempfile
from pathlib import Path

NAME = 'DKMS module signing key'

_MAGIC = b'~Module signature appended~\n'
_HEADER = 12    # struct module_signature, its length at the end


def make_key(key: Path, certificate: Path) -> None:
    """As DKMS calls openssl, which not every root has."""
    subprocess.run(
        ['openssl', 'req', '-new', '-x509', '-nodes', '-days', '36500',
         '-subj', f'/CN={NAME}', '-newkey', 'rsa:2048', '-keyout', key,
         '-outform', 'DER', '-out', certificate],
        check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def why_not_signed(module: bytes, certificate: Path) -> str:
    """Nothing if the module has a signature that is good by the certificate,
    and of all of it; otherwise what is wrong."""
    if not module.endswith(_MAGIC):
        return 'it has no signature'
    end = len(module) - len(_MAGIC)
    size = int.from_bytes(module[end - 4:end], 'big')
    end -= _HEADER
    with tempfile.TemporaryDirectory(prefix='rmapviz-mok.') as name:
        files = Path(name)
        (files / 'content').write_bytes(module[:end - size])
        (files / 'signature').write_bytes(module[end - size:end])
        subprocess.run(['openssl', 'x509', '-inform', 'DER',
                        '-in', certificate, '-out', files / 'certificate'],
                       check=True, stdin=subprocess.DEVNULL)
        # whom the certificate is trusted by is for the firmware to say
        done = subprocess.run(
            ['openssl', 'cms', '-verify', '-binary', '-inform', 'DER',
             '-in', 'signature', '-content', 'content', '-nointern',
             '-certfile', 'certificate', '-noverify', '-out', '/dev/null'],
            cwd=files, check=False, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return '' if done.returncode == 0 else done.stdout
