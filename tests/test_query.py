"""The query file: its grammar, its errors, and whose answer is read."""

from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

import pytest

from rvtest.guest import Guest, Result
from rvtest.report import Report
from rvtest.scene import FILE, Scene
from rvtest.stage import Stage
from stories import slug

SECONDS = 15

# The other way to ask, which writes nothing in debugfs.
PARAMETER = '/sys/module/rmapviz/parameters/query'
ANSWER = f'{FILE}_answer'

USAGE = 'who maps a physical page'
AT = '0x10000000000'    # where an actor's first region is

# A page of two processes, and one that was never touched.
FAMILY = '''
    P map M 2
    P write M 0
    P fork C
    '''

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
    ('pfn: without digits', 'pfn:'),
    ('pfn: with junk', 'pfn:xyz'),
    ('pfn: and 0x without digits', 'pfn:0x'),
    ('pfn: and junk after 0x', 'pfn:0xg'),
    ('pfn: and a blank', 'pfn: 12'),
    ('a blank before the colon', 'pfn :12'),
    ('pfn: and junk behind it', 'pfn:12g'),
    ('pfn: and a sign', 'pfn:-1'),
    ('pfn: and a plus', 'pfn:+1'),
    ('pfn: of 2^64', 'pfn:10000000000000000'),
    ('pfn: twice', 'pfn:pfn:1'),
    ('pfn and pfn:', 'pfn pfn:1'),
    ('pfn: in capitals', 'PFN:1'),
    ('phys:', 'phys:1000'),
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
    ('brief and full', '1 brief full'),
    ('full and brief json', '1 full json brief'),
    ('the folio of a process', 'pid 1 folio'),
    ('two lines', '1\\n2\\n'),
    ('a newline before an option', '1\\n json'),
    ('a carriage return', '1\\r\\n'),
    ('a vertical tab before the number', '\\v1'),
    ('a no-break space', '1\\240'),
    ('a NUL behind the number', '1\\0'),
    ('a NUL in the middle', '1\\0 json'),
    ('128 bytes', '1' + ' ' * 127),
    ('4096 bytes', '1' + ' ' * 4095),
)

# What parses, and what becomes of it.
ERRORS = (
    ('a PFN beyond memory', '0xffffffff', 'ENXIO'),
    ('the largest PFN', '0xffffffffffffffff', 'ENXIO'),
    ('the largest PFN after pfn:', 'pfn:ffffffffffffffff', 'ENXIO'),
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
    'pfn:{pfn:x}', 'pfn:{pfn:#x}', 'pfn:{pfn:X}', 'pfn:{pfn:#X}',
    'pfn:000{pfn:x}', ' pfn:{pfn:x}\tfull ', '{pfn} full', '{pfn} full ptrs',
    'phys {phys}', 'phys {phys:#x}', 'pid {pid} 0x10000000000',
    'pid {pid} 0x10000000fff', '{pfn} folio', '{pfn} brief', '{pfn} ptrs',
    '{pfn} brief ptrs folio',
)

# What the parameter does not take, and why nobody can read it.
REFUSED = (
    ('nothing', ''),
    ('a word that is no number', 'frob'),
    ('an unknown option', '1 xml'),
    ('128 bytes', '1' + ' ' * 127),
)


def named(table: Sequence[Tuple[str, ...]]) -> List[Any]:
    """The rows of a table as parameters, by their first words."""
    return [pytest.param(*row[1:], id=slug(row[0])) for row in table]


def spelled(spellings: Sequence[str]) -> List[Any]:
    """Spellings as parameters."""
    return [pytest.param(spelling, id=f'{i}-{slug(spelling)}')
            for i, spelling in enumerate(spellings, 1)]


class Family(NamedTuple):
    """Two processes that share a page."""

    scene: Scene
    pid: int
    pfn: int

    @property
    def guest(self) -> Guest:
        """Where they live."""
        return self.scene.guest

    def spell(self, spelling: str) -> str:
        """A query for the page."""
        return spelling.format(pfn=self.pfn, phys=self.pfn << 12 | 0x123,
                               pid=self.pid)

    def is_answered(self, answer: str) -> bool:
        """Whether that text is about the page."""
        return answer.startswith(f'PFN 0x{self.pfn:x} is an anonymous page')


@pytest.fixture
def family(stage: Stage) -> Family:
    """One for all tests of the grammar, which leaves it alone."""
    scene = stage.scene(FAMILY, lambda new: new.play(FAMILY))
    return Family(scene, scene.pids['P'],
                  stage.once('its page', lambda: scene.pfn('P', 'M')))


def write_raw(guest: Guest, raw: str) -> str:
    """Write bytes to the file in one write; ok or the error's name."""
    guest.check(f"printf '{raw}' >/tmp/raw")
    return error_of(guest.run('ask -r /tmp/raw'))


def error_of(result: Result) -> str:
    """The error that ask was told, or ok."""
    status, output = result
    return output.split(': ')[-1].split(' (')[0] if status else 'ok'


# ----------------------------------------------------------------- errors --

@pytest.mark.parametrize('raw', named(MALFORMED))
def test_malformed_is_einval(family: Family, raw: str) -> None:
    """Whatever exists."""
    assert write_raw(family.guest, raw) == 'EINVAL'


@pytest.mark.parametrize('query, error', named(ERRORS))
def test_the_write_fails_with_the_reason(family: Family, query: str,
                                         error: str) -> None:
    """Of what parses, but cannot be answered."""
    assert write_raw(family.guest, family.spell(query)) == error


def test_127_bytes_with_the_newline_are_not_too_many(family: Family) -> None:
    """One less than what is refused."""
    assert write_raw(family.guest, '1' + ' ' * 125 + '\\n') == 'ok'


def test_echo_says_what_is_wrong(family: Family) -> None:
    """For it is the write that fails."""
    assert 'Invalid argument' in family.guest.run(f'echo frob >{FILE}').output


def test_queries_that_fail_change_nothing(family: Family) -> None:
    """Who reads gets the answer to the last that did not."""
    guest = family.guest
    guest.check(f'echo 0 brief >{FILE}')
    before = guest.check(f'cat {FILE}')
    for _, raw in MALFORMED:
        write_raw(guest, raw)
    assert guest.check(f'cat {FILE}') == before, 'malformed'
    for _, query, _ in ERRORS:
        write_raw(guest, family.spell(query))
    assert guest.check(f'cat {FILE}') == before, 'without an answer'


# ---------------------------------------------------------------- answers --

@pytest.mark.parametrize('spelling', spelled(SPELLINGS))
def test_a_spelling_is_answered(family: Family, spelling: str) -> None:
    """In text."""
    answer = family.guest.check(f"ask '{family.spell(spelling)}'")
    assert family.is_answered(answer), answer


@pytest.mark.parametrize('spelling', spelled(
    [spelling for spelling in SPELLINGS if 'text' not in spelling]))
def test_a_spelling_is_answered_in_json(family: Family, spelling: str
                                        ) -> None:
    """Which repeats the question; brief leaves out who maps the page."""
    query = family.spell(spelling)
    report = family.scene.ask(query)
    assert (report['page']['pfn'], report['query'], 'ptes' not in report) \
        == (family.pfn, f'{query} json'.strip(), 'brief' in query)


def test_the_text_names_avcs_as_the_classic_drawings_do(family: Family
                                                        ) -> None:
    """The parent's own, and the one that joins the child to it."""
    text = family.guest.check(f'ask {family.pfn}')
    assert 'AV0    AVC0      AVC_x01' in text \
        and 'AV1    -         AVC1' in text, text


def test_pid_alone_has_no_page_but_anon_vmas(family: Family) -> None:
    """And the process among those who have them."""
    report = family.scene.ask(f'pid {family.pid}')
    assert (report['page'], report['ptes']) == (None, [])
    assert report['anon_vmas']
    assert family.pid in [mm['pid'] for mm in report['mms']]


# ------------------------------------------------------------- same facts --

def facts_of(report: Report) -> List[str]:
    """What of a report with ptrs the text must have as well."""
    page = report['page']
    facts = [f"0x{page['pfn']:x}", page['index'], page['mapping'],
             page['ptr'], page['mapping_ptr'],
             f"mapcount {page['mapcount']}", f"refcount {page['refcount']}",
             f"{page['expected_refs']} expected",
             *page['flags']]
    for record in report['anon_vmas'] + report['vmas']:
        facts.append(record['ptr'])
    for vma in report['vmas']:
        facts += [f"{int(vma['start'], 16):012x}", vma['perms'],
                  str(report['mms'][vma['mm']]['pid']),
                  report['mms'][vma['mm']]['comm']]
    for pte in report['ptes']:
        facts += [f"{int(pte['addr'], 16):012x}", pte['value'], *pte['flags']]
    return facts


def test_the_text_has_the_facts_of_the_json(family: Family) -> None:
    """But for present, which goes without saying."""
    query = f'pid {family.pid} {AT}'
    facts = facts_of(family.scene.ask(f'{query} ptrs'))
    text = family.guest.check(f'ask {query} ptrs')
    assert [fact for fact in facts
            if fact not in text and fact != 'present'] == []


def test_the_text_is_ascii_without_blanks_at_line_ends(family: Family
                                                       ) -> None:
    """So that it can be pasted anywhere."""
    text = family.guest.check(f'ask pid {family.pid} {AT} ptrs')
    assert [line for line in text.splitlines()
            if line.rstrip() != line or not line.isascii()] == []


def test_the_text_is_under_100_columns(family: Family) -> None:
    """As long as it has no pointers."""
    text = family.guest.check(f'ask pid {family.pid} {AT}')
    assert [line for line in text.splitlines() if len(line) > 99] == []


# -------------------------------------------------------- whose answer ----

@pytest.mark.parametrize('reader, pfn', (
    pytest.param(3, None, id='the-one-that-asked-for-the-page'),
    pytest.param(4, 0, id='the-one-that-asked-for-frame-0')))
def test_a_descriptor_reads_the_answer_to_its_own_query(
        family: Family, reader: int, pfn: int) -> None:
    """Whoever asked last."""
    want = family.pfn if pfn is None else pfn
    answer = family.guest.check(
        f'(exec 3<>{FILE} 4<>{FILE}; echo {family.pfn} brief >&3; '
        f'echo 0 brief >&4; cat <&{reader})')
    assert answer.startswith(f'PFN 0x{want:x} is'), answer


def test_one_opened_for_reading_asks_the_last_query_again(family: Family
                                                          ) -> None:
    """Though it was opened before that."""
    answer = family.guest.check(
        f'(exec 3<>{FILE} 4<>{FILE} 5<{FILE}; echo {family.pfn} brief >&3; '
        'echo 0 brief >&4; cat <&5)')
    assert answer.startswith('PFN 0x0 is'), answer


def test_a_query_fails_on_a_descriptor(family: Family) -> None:
    """As it does by ask."""
    status, output = family.guest.run(f'(exec 3<>{FILE}; echo frob >&3)')
    assert status and 'Invalid argument' in output


def test_echo_then_cat_works_across_two_opens(family: Family) -> None:
    """Though a query has failed on another descriptor meanwhile."""
    answer = family.guest.run(
        f'(exec 3<>{FILE}; echo pid {family.pid} >{FILE}; '
        f'echo frob >&3) 2>/dev/null; cat {FILE}').output
    assert answer.startswith(f'pid {family.pid}:'), answer


def test_small_reads_give_the_same_as_a_large_one(family: Family) -> None:
    """But for the line that has a time."""
    guest = family.guest
    guest.check(f'echo pid {family.pid} >{FILE}')
    small, large = (guest.check(f'dd if={FILE} bs={size} 2>/dev/null'
                                ' | sed "/locks held/ d"')
                    for size in ('7', '64k'))
    assert small and small == large


def test_what_is_read_after_another_query_is_none_of_the_answer_before(
        family: Family) -> None:
    """Not even where the last read had ended, in the midst of a line."""
    answer = family.guest.check(
        f'(exec 3<>{FILE}; echo {family.pfn} >&3; dd bs=4 count=1 <&3; '
        'echo 0 brief >&3; dd bs=1 skip=4 <&3) 2>/dev/null')
    assert answer.startswith('PFN 0x0 is'), answer


def test_one_opened_for_reading_goes_on_in_the_answer_that_it_has_begun(
        family: Family) -> None:
    """Though somebody asks for something else meanwhile."""
    answer = family.guest.check(
        f'(echo {family.pfn} >{FILE}; exec 5<{FILE}; dd bs=4 count=1 <&5; '
        f'echo 0 brief >{FILE}; dd bs=1 skip=4 <&5) 2>/dev/null')
    skipped = f'PFN 0x{family.pfn:x} is'[4:8]
    assert family.is_answered(answer[:4] + skipped + answer[4:]), answer


def test_a_descriptor_that_has_not_asked_gets_the_usage(family: Family
                                                        ) -> None:
    """Not the answer to somebody else's question."""
    family.guest.check(f'echo {family.pfn} >{FILE}')
    assert USAGE in family.guest.check(f'(exec 3<>{FILE}; cat <&3)')


# -------------------------------------------------------------- privilege --

@pytest.fixture
def kptr_restrict(family: Family) -> Iterator[str]:
    """The sysctl, which is 0 again afterwards."""
    sysctl = '/proc/sys/kernel/kptr_restrict'
    yield sysctl
    family.guest.run(f'echo 0 >{sysctl}')


def test_eperm_without_cap_sys_admin(family: Family) -> None:
    """For the file cannot even be opened."""
    result = family.guest.run(f'ask -d 21 {family.pfn}')
    assert (result.status, error_of(result)) == (2, 'EPERM')


def test_eperm_for_ptrs_without_cap_syslog(family: Family) -> None:
    """Which is for addresses of the kernel."""
    result = family.guest.run(f'ask -d 34 {family.pfn} ptrs')
    assert (result.status, error_of(result)) == (1, 'EPERM')


def test_without_cap_syslog_the_rest_is_answered(family: Family) -> None:
    """All that has no addresses."""
    answer = family.guest.check(f'ask -d 34 {family.pfn}')
    assert family.is_answered(answer), answer


@pytest.mark.parametrize('value, want', ((0, 'ok'), (1, 'ok'), (2, 'EPERM')))
def test_ptrs_obeys_kptr_restrict(family: Family, kptr_restrict: str,
                                  value: int, want: str) -> None:
    """2 forbids it to root."""
    family.guest.check(f'echo {value} >{kptr_restrict}')
    result = family.guest.run(f'ask {family.pfn} ptrs')
    assert error_of(result) == want
    assert want != 'ok' or family.is_answered(result.output)


@pytest.mark.parametrize('form', ('text', 'json'))
def test_no_kernel_address_without_ptrs(family: Family, form: str) -> None:
    """In either form."""
    assert '0xffff' not in family.guest.check(f'ask {family.pfn} {form}')


# -------------------------------------------------------------- parameter --

def ask_parameter(family: Family) -> None:
    """Ask for the page by the module parameter, after another question."""
    family.guest.check(f'echo 0 brief >{FILE}; '
                       f'echo {family.pfn} brief >{PARAMETER}')


@pytest.mark.parametrize('name, mode', (
    pytest.param(FILE, '600', id='rmapviz'),
    pytest.param(ANSWER, '400', id='rmapviz_answer'),
    pytest.param(PARAMETER, '600', id='parameter')))
def test_who_may_open_it(family: Family, name: str, mode: str) -> None:
    """Root, and what is only read cannot be written."""
    assert family.guest.check(f'stat -c %a {name}') == f'{mode}\n'


def test_the_parameter_keeps_the_query(family: Family) -> None:
    """For whoever reads it."""
    ask_parameter(family)
    assert family.guest.check(f'cat {PARAMETER}') == f'{family.pfn} brief\n'


@pytest.mark.parametrize('name', (
    pytest.param(ANSWER, id='rmapviz_answer'),
    pytest.param(FILE, id='rmapviz-opened-for-reading')))
def test_the_parameter_is_answered(family: Family, name: str) -> None:
    """In both files."""
    ask_parameter(family)
    answer = family.guest.check(f'cat {name}')
    assert family.is_answered(answer), answer


def test_rmapviz_answer_answers_what_was_asked_of_rmapviz_last(
        family: Family) -> None:
    """One last query for both ways to ask."""
    ask_parameter(family)
    family.guest.check(f'echo 0 brief >{FILE}')
    answer = family.guest.check(f'cat {ANSWER}')
    assert answer.startswith('PFN 0x0 is'), answer


@pytest.mark.parametrize('raw', named(REFUSED))
def test_the_parameter_refuses(family: Family, raw: str) -> None:
    """What does not parse, and keeps what it had."""
    family.guest.check(f'echo 0 brief >{FILE}')
    output = family.guest.run(f"echo '{raw}' >{PARAMETER}").output
    assert 'Invalid argument' in output
    assert family.guest.check(f'cat {PARAMETER}') == '0 brief\n'


def test_the_reader_is_told_what_the_walk_cannot_find(family: Family
                                                      ) -> None:
    """As the parameter is only parsed."""
    family.guest.check(f'echo pid {family.pid} 0x1000 >{PARAMETER}')
    status, output = family.guest.run(f'cat {ANSWER}')
    assert status and 'Bad address' in output


def test_rmapviz_answer_takes_no_query(family: Family) -> None:
    """Not even from root, whom its mode does not stop."""
    output = family.guest.run(f'echo 0 >{ANSWER}').output
    assert 'Invalid argument' in output


def test_nothing_is_logged_for_a_users_mistake(family: Family) -> None:
    """Neither by the module nor because of it."""
    guest, mark = family.guest, 'rvtest: mistakes from here on'
    guest.check(f'echo "{mark}" >/dev/kmsg')
    for _, raw in MALFORMED:
        write_raw(guest, raw)
    for _, query, _ in ERRORS:
        write_raw(guest, family.spell(query))
    for query in (f'-d 21 {family.pfn}', f'-d 34 {family.pfn} ptrs'):
        assert guest.run(f'ask {query}').status
    for _, raw in REFUSED:
        assert guest.run(f"echo '{raw}' >{PARAMETER}").status
    guest.check(f'echo pid {family.pid} 0x1000 >{PARAMETER}')
    assert guest.run(f'cat {ANSWER}').status
    assert guest.run(f'echo 0 >{ANSWER}').status
    _, found, log = guest.check('dmesg').partition(mark)
    assert found and 'rmapviz' not in log


# ---------------------------------------------------------------- present --

class Asked(NamedTuple):
    """Somebody alone with a page, for which descriptor 3 has asked."""

    scene: Scene
    pid: int
    pfn: int

    def give_to_a_pipe(self) -> None:
        """Which keeps the frame from being used for something else."""
        self.scene.play('P vmsplice M 0\nP unmap M 0 1')


@pytest.fixture
def asked(scene: Scene) -> Iterator[Asked]:
    """The descriptor is closed in the end."""
    scene.play('P map M 1\nP write M')
    pfn = scene.pfn('P', 'M')
    scene.guest.check(f'exec 3<>{FILE}; echo {pfn} >&3')
    yield Asked(scene, scene.pids['P'], pfn)
    scene.guest.run('exec 3>&-')


def test_an_answer_is_as_of_its_query(asked: Asked) -> None:
    """Though the page has been unmapped since."""
    asked.give_to_a_pipe()
    assert '1 process maps it' in asked.scene.guest.check('cat <&3')


def test_cat_shows_the_present(asked: Asked) -> None:
    """In which only a pipe has the page."""
    asked.give_to_a_pipe()
    answer = asked.scene.guest.check(f'cat {FILE}')
    assert 'nothing maps it' in answer and '+ 1 other' in answer, answer


def test_cat_answers_for_a_frame_that_was_freed(asked: Asked) -> None:
    """Whatever became of it."""
    asked.give_to_a_pipe()
    asked.scene.play('P vmspliceend')
    answer = asked.scene.guest.check(f'cat {FILE}')
    assert answer.startswith(f'PFN 0x{asked.pfn:x} is'), answer


def test_efault_for_an_address_whose_page_was_freed(asked: Asked) -> None:
    """For nothing is there any more."""
    asked.give_to_a_pipe()
    asked.scene.play('P vmspliceend')
    assert write_raw(asked.scene.guest, f'pid {asked.pid} {AT}') == 'EFAULT'


def test_cat_fails_when_the_process_has_gone(guest: Guest) -> None:
    """With ESRCH, and silently in the log."""
    mark = 'rvtest: a process goes'
    with Scene(guest) as scene:
        scene.play('P map N 1\nP write N')
        guest.check(f'echo pid {scene.pids["P"]} >{FILE}')
    guest.check(f'echo "{mark}" >/dev/kmsg')
    status, output = guest.run(f'cat {FILE}')
    assert status and 'No such process' in output
    _, found, log = guest.check('dmesg').partition(mark)
    assert found and 'rmapviz' not in log


# ----------------------------------------------------------------- loading --

@pytest.fixture
def unloaded(guest: Guest) -> Iterator[Guest]:
    """A guest without the module, which has it again afterwards."""
    guest.check('rmmod rmapviz')
    yield guest
    if not guest.broken:
        guest.run('rmmod rmapviz; insmod /rmapviz.ko')


def test_before_the_first_query_cat_explains_itself(unloaded: Guest) -> None:
    """Instead of failing."""
    unloaded.check('insmod /rmapviz.ko')
    assert USAGE in unloaded.check(f'cat {FILE}')


def test_insmod_refuses_a_query_that_does_not_parse(unloaded: Guest) -> None:
    """And loads nothing."""
    status, output = unloaded.run('insmod /rmapviz.ko query=xyz')
    assert status
    assert 'invalid parameter' in output.lower() \
        or 'invalid argument' in output.lower(), output
    assert unloaded.run('grep ^rmapviz /proc/modules').status


def test_insmod_can_ask_already(unloaded: Guest) -> None:
    """By query=..., of what is there at that time."""
    with Scene(unloaded) as scene:
        scene.play('P map M 1\nP write M')
        pid = scene.pids['P']
        unloaded.check(f"insmod /rmapviz.ko query='\"pid {pid}\"'")
        answer = unloaded.check(f'cat {ANSWER}')
    assert answer.startswith(f'pid {pid}:'), answer
