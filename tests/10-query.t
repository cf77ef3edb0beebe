#!/usr/bin/python3
"""The query file: its grammar, its errors, and whose answer is read."""

import json
import sys
from pathlib import Path
from typing import Tuple

sys.path.insert(0, str(Path(__file__).parent / 'lib'))

from rvtest import Guest, Tap, kernels  # noqa: E402
from rvtest.scene import FILE, Scene  # noqa: E402

# The other way to ask, which writes nothing in debugfs.
PARAMETER = '/sys/module/rmapviz/parameters/query'
ANSWER = f'{FILE}_answer'

# What does not parse: EINVAL, whatever exists.
MALFORMED = (
    ('nothing', ''),
    ('a newline alone', '\\n'),
    ('blanks alone', ' \\t '),
    ('a word that is no number', 'frob'),
    ('a negative number', '-1'),
    ('a number with a plus', '+1'),
    ('hex without 0x', '1d2f3'),
    ('0x without digits', '0x'),
    ('a number with junk behind it', '0x1g'),
    ('a number of 2^64', '18446744073709551616'),
    ('a hex number of 2^64', '0x10000000000000000'),
    ('pfn without a number', 'pfn'),
    ('phys without a number', 'phys'),
    ('pid without a number', 'pid'),
    ('a negative pid', 'pid -1'),
    ('pid with junk for an address', 'pid 1 0xzz'),
    ('two targets', 'pfn 1 pfn 2'),
    ('two numbers', '1 2'),
    ('three numbers after pid', 'pid 1 2 3'),
    ('an unknown option', '1 xml'),
    ('an option before the target', 'json 1'),
    ('an option in capitals', '1 JSON'),
    ('text and json', '1 text json'),
    ('the folio of a process', 'pid 1 folio'),
    ('two lines', '1\\n2\\n'),
    ('a NUL behind the number', '1\\0'),
    ('a NUL in the middle', '1\\0 json'),
    ('128 bytes', '1' + ' ' * 127),
    ('4096 bytes', '1' + ' ' * 4095),
)

# What parses, and what becomes of it.
ERRORS = (
    ('a PFN beyond memory', '0xffffffff', 'ENXIO'),
    ('the largest PFN', '0xffffffffffffffff', 'ENXIO'),
    ('an address beyond memory', 'phys 0xffffffffffff', 'ENXIO'),
    ('a hole in memory', 'phys 0xf0000000', 'ENXIO'),
    ('a process that is not there', 'pid 4000000 0x1000', 'ESRCH'),
    ('a process that is not there, all of it', 'pid 4000000', 'ESRCH'),
    ('pid 0', 'pid 0', 'ESRCH'),
    ('a pid of 2^32 + 1', 'pid 4294967297', 'ESRCH'),
    ('an address without a VMA', 'pid {pid} 0x1000', 'EFAULT'),
    ('an address never touched', 'pid {pid} 0x10000001000', 'EFAULT'),
    ('an address of the kernel', 'pid {pid} 0xffffffff81000000', 'EFAULT'),
    ('an address that is not canonical', 'pid {pid} 0x800000000000',
     'EFAULT'),
    ('an address of a kernel thread', 'pid 2 0x1000', 'EFAULT'),
)

# What is answered: spellings of one question.
SPELLINGS = (
    '{pfn}', '{pfn:#x}', '{pfn:#X}', 'pfn {pfn}', 'pfn {pfn:#x}',
    '  pfn\t{pfn} ', '000{pfn}', '{pfn} text', '{pfn} text text',
    'phys {phys}', 'phys {phys:#x}', 'pid {pid} 0x10000000000',
    'pid {pid} 0x10000000fff', '{pfn} folio', '{pfn} brief', '{pfn} ptrs',
    '{pfn} brief ptrs folio',
)


def write_raw(guest: Guest, raw: str) -> str:
    """Write bytes to the file in one write; ok or the error's name."""
    guest.check(f"printf '{raw}' >/tmp/raw")
    status, output = guest.run('ask -r /tmp/raw')
    return output.split(': ')[-1].split(' (')[0] if status else 'ok'


def check_errors(tap: Tap, guest: Guest, pid: int) -> None:
    """Every way to ask wrongly, and that it changes nothing."""
    guest.check(f'echo 0 brief >{FILE}')
    before = guest.check(f'cat {FILE}')
    for name, raw in MALFORMED:
        tap.is_equal(write_raw(guest, raw), 'EINVAL', f'EINVAL for {name}')
    tap.is_equal(write_raw(guest, '1' + ' ' * 125 + '\\n'), 'ok',
                 '127 bytes with the newline are not too many')
    guest.check(f'echo 0 brief >{FILE}')
    for name, query, error in ERRORS:
        tap.is_equal(write_raw(guest, query.format(pid=pid)), error,
                     f'{error} for {name}')
    tap.is_equal(guest.check(f'cat {FILE}'), before,
                 'queries that failed change nothing')
    output = guest.run(f'echo frob >{FILE}').output
    tap.ok('Invalid argument' in output, 'echo says what is wrong', output)


def check_spellings(tap: Tap, guest: Guest, pid: int, pfn: int) -> None:
    """All targets and options, as text and as JSON."""
    for spelling in SPELLINGS:
        query = spelling.format(pfn=pfn, phys=pfn << 12 | 0x123, pid=pid)
        output = guest.check(f"ask '{query}'")
        tap.ok(output.startswith(f'PFN 0x{pfn:x} is an anonymous page'),
               f'{spelling.strip()!r} is answered', output)
        if 'text' in query:
            continue
        report = json.loads(guest.check(f"ask '{query} json'"))
        tap.is_equal((report['page']['pfn'], report['query'],
                      'ptes' not in report),
                     (pfn, f'{query} json'.strip(), 'brief' in query),
                     f'{spelling.strip()!r} is answered in JSON')
    text = guest.check(f'ask {pfn}')
    tap.ok('AV0    AVC0      AVC_x01' in text
           and 'AV1    -         AVC1' in text,
           'the text names AVCs as the classic drawings do', text)
    report = json.loads(guest.check(f'ask pid {pid} json'))
    tap.is_equal((report['page'], report['ptes'],
                  pid in [mm['pid'] for mm in report['mms']]),
                 (None, [], True), "'pid PID' has no page, but anon_vmas")


def check_same_facts(tap: Tap, guest: Guest, pid: int) -> None:
    """What JSON says, the text says too."""
    query = f'pid {pid} 0x10000000000'
    report = json.loads(guest.check(f'ask {query} json ptrs'))
    text = guest.check(f'ask {query} ptrs')
    page = report['page']
    facts = [f"0x{page['pfn']:x}", page['index'], page['mapping'],
             page['ptr'], page['mapping_ptr'],
             f"mapcount {page['mapcount']}", f"refcount {page['refcount']}",
             f"{page['expected_refs']} expected", f"{page['pins']} pins",
             *page['flags']]
    for record in report['anon_vmas'] + report['vmas']:
        facts.append(record['ptr'])
    for vma in report['vmas']:
        facts += [f"{int(vma['start'], 16):012x}", vma['perms'],
                  str(report['mms'][vma['mm']]['pid']),
                  report['mms'][vma['mm']]['comm']]
    for pte in report['ptes']:
        facts += [f"{int(pte['addr'], 16):012x}", pte['value'], *pte['flags']]
    tap.is_equal([fact for fact in facts
                  if fact not in text and fact != 'present'], [],
                 'the text has the facts of the JSON')
    tap.is_equal([line for line in text.splitlines()
                  if line.rstrip() != line or not line.isascii()], [],
                 'the text is ASCII without blanks at line ends')
    tap.is_equal([line for line in guest.check(f'ask {query}').splitlines()
                  if len(line) > 99], [], 'the text is under 100 columns')


def check_whose_answer(tap: Tap, guest: Guest, pid: int, pfn: int) -> None:
    """State belongs to the open file."""
    guest.check(f'exec 3<>{FILE} 4<>{FILE} 5<{FILE}')
    guest.check(f'echo {pfn} brief >&3')
    guest.check('echo 0 brief >&4')
    tap.ok(guest.check('cat <&3').startswith(f'PFN 0x{pfn:x} is'),
           'a descriptor reads the answer to its own query')
    tap.ok(guest.check('cat <&4').startswith('PFN 0x0 is'),
           'another one that to another')
    tap.ok(guest.check('cat <&5').startswith('PFN 0x0 is'),
           'one opened for reading asks the last query again')
    guest.check(f'echo pid {pid} >{FILE}')
    tap.ok(guest.run('echo frob >&3').output != '',
           'a query fails on a descriptor')
    guest.check('exec 3>&- 4>&- 5<&-')
    tap.ok(guest.check(f'cat {FILE}').startswith(f'pid {pid}:'),
           'echo, then cat, works across two opens')
    tap.is_equal(guest.check(f'dd if={FILE} bs=7 2>/dev/null | sed "$ d"'),
                 guest.check(f'dd if={FILE} bs=64k 2>/dev/null | sed "$ d"'),
                 'small reads give the same as a large one')
    output = guest.check(f'exec 3<>{FILE}; cat <&3; exec 3>&-')
    tap.ok('who maps a physical page' in output,
           'a descriptor that has not asked gets the usage', output)


def check_parameter(tap: Tap, guest: Guest, pid: int, pfn: int) -> None:
    """Ask by the module parameter, and read what can only be read."""
    tap.is_equal(guest.check(f'stat -c %a {ANSWER} {PARAMETER}').split(),
                 ['400', '600'], 'who may read the answer, who may ask')
    guest.check(f'echo {pfn} brief >{PARAMETER}')
    tap.is_equal(guest.check(f'cat {PARAMETER}'), f'{pfn} brief\n',
                 'the parameter keeps the query')
    tap.ok(guest.check(f'cat {ANSWER}').startswith(f'PFN 0x{pfn:x} is an'),
           'rmapviz_answer answers the parameter')
    tap.ok(guest.check(f'cat {FILE}').startswith(f'PFN 0x{pfn:x} is an'),
           'and so does rmapviz, opened for reading')
    guest.check(f'echo 0 brief >{FILE}')
    tap.ok(guest.check(f'cat {ANSWER}').startswith('PFN 0x0 is'),
           'rmapviz_answer answers what was asked of rmapviz last')
    for raw in ('', 'frob', '1 xml', '1' + ' ' * 127):
        output = guest.run(f"echo '{raw}' >{PARAMETER}").output
        tap.ok('Invalid argument' in output,
               f'the parameter does not take {raw[:8]!r}', output)
    tap.is_equal(guest.check(f'cat {PARAMETER}'), '0 brief\n',
                 'nor does that change anything')
    guest.check(f'echo pid {pid} 0x1000 >{PARAMETER}')
    status, output = guest.run(f'cat {ANSWER}')
    tap.ok(status and 'Bad address' in output,
           'what the walk cannot find, the reader is told', output)
    output = guest.run(f'echo 0 >{ANSWER}').output
    tap.ok('Invalid argument' in output,
           'rmapviz_answer itself takes no query', output)
    output = guest.run('rmmod rmapviz; insmod /rmapviz.ko query=xyz').output
    tap.ok('invalid parameter' in output.lower()
           or 'invalid argument' in output.lower(),
           'insmod query=xyz fails', output)
    guest.check(f"insmod /rmapviz.ko query='\"pid {pid}\"'")
    tap.ok(guest.check(f'cat {ANSWER}').startswith(f'pid {pid}:'),
           'insmod query=... can ask already')


def check_present(tap: Tap, guest: Guest) -> None:
    """What was answered stays; what is asked again is the present."""
    with Scene(guest) as scene:
        scene.play('P map M 1\nP write M')
        pfn = scene.pfn('P', 'M')
        guest.check(f'exec 3<>{FILE}; echo {pfn} >&3')
        # a pipe keeps the frame from being used for something else
        scene.play('P vmsplice M 0\nP unmap M 0 1')
        tap.ok('1 process maps it' in guest.check('cat <&3'),
               'the answer is as of the query, though the page was unmapped')
        output = guest.check(f'cat {FILE}')
        tap.ok('nothing maps it' in output and '+ 1 pin' in output,
               'cat shows the present, in which only a pipe has it', output)
        scene.play('P vmspliceend')
        tap.ok(guest.check(f'cat {FILE}').startswith(f'PFN 0x{pfn:x} is'),
               'and when it was freed, whatever became of it')
        pid = scene.pids['P']
        tap.is_equal(write_raw(guest, f'pid {pid} 0x10000000000'), 'EFAULT',
                     'EFAULT for an address whose page was freed')
        guest.check('exec 3>&-')
        scene.play('P map N 1\nP write N')
        guest.check(f'echo pid {pid} >{FILE}')
    status, output = guest.run(f'cat {FILE}')
    tap.ok(status and 'No such process' in output,
           'cat fails with ESRCH when the process has gone', output)


def check_privilege(tap: Tap, guest: Guest, pfn: int) -> None:
    """Who may ask, and who may see addresses."""
    def ask(words: str) -> Tuple[int, str]:
        status, output = guest.run(f'ask {words}')
        return status, output.split(': ')[-1].split(' (')[0] if status \
            else output.split(' ')[0]

    tap.is_equal(ask(f'-d 21 {pfn}'), (2, 'EPERM'),
                 'EPERM without CAP_SYS_ADMIN')
    tap.is_equal(ask(f'-d 34 {pfn} ptrs'), (1, 'EPERM'),
                 'EPERM for ptrs without CAP_SYSLOG')
    tap.is_equal(ask(f'-d 34 {pfn}'), (0, 'PFN'),
                 'without CAP_SYSLOG the rest is answered')
    sysctl = '/proc/sys/kernel/kptr_restrict'
    for value, want in ((1, (0, 'PFN')), (2, (1, 'EPERM')), (0, (0, 'PFN'))):
        guest.check(f'echo {value} >{sysctl}')
        tap.is_equal(ask(f'{pfn} ptrs'), want,
                     f'{want[1]} for ptrs with kptr_restrict={value}')
    text = guest.check(f'ask {pfn} json') + guest.check(f'ask {pfn}')
    tap.ok('0xffff' not in text, 'no kernel address without ptrs', text)


def main() -> None:
    """Ask every kernel everything."""
    with Tap() as tap:
        for series in kernels():
            tap.prefix = f'{series}: '
            with Guest(series) as guest:
                output = guest.check(f'cat {FILE}')
                tap.ok('who maps a physical page' in output,
                       'before the first query cat explains itself', output)
                with Scene(guest) as scene:
                    scene.play('P map M 2\nP write M 0\nP fork C')
                    pid, pfn = scene.pids['P'], scene.pfn('P', 'M')
                    check_errors(tap, guest, pid)
                    check_spellings(tap, guest, pid, pfn)
                    check_same_facts(tap, guest, pid)
                    check_whose_answer(tap, guest, pid, pfn)
                    check_privilege(tap, guest, pfn)
                check_present(tap, guest)
                tap.ok('rmapviz' not in guest.check('dmesg | grep -v taint'),
                       "nothing is logged for a user's mistake")
                with Scene(guest) as scene:
                    scene.play('P map M 1\nP write M 0')
                    check_parameter(tap, guest, scene.pids['P'],
                                    scene.pfn('P', 'M'))
                tap.is_equal(guest.kernel_complaints(), [],
                             'the kernel has nothing to complain of')


if __name__ == '__main__':
    main()
