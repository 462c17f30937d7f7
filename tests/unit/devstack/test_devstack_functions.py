# SPDX-License-Identifier: Apache-2.0

"""The oddities of DevStack that the plugin is written around.

They hold for the stand-in and, with DEVSTACK_DIR, for DevStack itself; where
DevStack fixes one, the plugin can be made simpler.
"""

import pytest

TWO_LINES = r"printf '[s]\no = 1\no = 2\n' > f; "

CASES = [
    # A sentence, what is run, and what the file f or the output is then.
    (
        "iniset sets every line of an option",
        TWO_LINES + "iniset f s o 3",
        ["[s]", "o = 3", "o = 3"],
    ),
    (
        "iniset squeezes blanks",
        r"""printf '[s]\n' > f; iniset f s o '{"a":  "b  c"}'""",
        ["[s]", 'o = {"a": "b c"}'],
    ),
    (
        "iniset takes brackets for a file name",
        r"printf '[s]\n' > f; touch a; iniset f s o '[abc]'",
        ["[s]", "o = a"],
    ),
    (
        "iniset keeps backslash and ampersand",
        r"""printf '[s]\no = 1\n' > f; iniset f s o 'a\\d&'""",
        ["[s]", r"o = a\\d&"],
    ),
    (
        "iniset adds a section that is missing",
        "printf '[s]\\n' > f; iniset f t o 1",
        ["[s]", "", "[t]", "o = 1"],
    ),
    (
        "iniset_multiline splits at blanks",
        r"""printf '[s]\n' > f; iniset_multiline f s o '{"a": 1}'""",
        ["[s]", 'o = {"a":', "o = 1}"],
    ),
    (
        "iniset_multiline takes a star for file names",
        r"printf '[s]\n' > f; touch z1 z2; iniset_multiline f s o 'z*'",
        ["[s]", "o = z1", "o = z2"],
    ),
    (
        "iniadd splits what is there as well",
        r"""printf '[s]\no = "x y"\n' > f; iniadd f s o 3""",
        ["[s]", 'o = "x', 'o = y"', "o = 3"],
    ),
    (
        "iniadd_literal does nothing without the section",
        r"printf '[s]\n' > f; iniadd_literal f t o 1",
        ["[s]"],
    ),
    (
        "iniadd_literal inserts at the top of the section",
        TWO_LINES + "iniadd_literal f s o '3 4'",
        ["[s]", "o = 3 4", "o = 1", "o = 2"],
    ),
    (
        "iniadd_literal loses backslashes",
        r"printf '[s]\n' > f; iniadd_literal f s o 'a\d'",
        ["[s]", "o = ad"],
    ),
    (
        "inidelete deletes every line of an option",
        TWO_LINES + "inidelete f s o",
        ["[s]"],
    ),
    (
        "iniget_multiline joins lines by blanks",
        TWO_LINES + "iniget_multiline f s o > out; mv out f",
        ["1 2"],
    ),
    (
        "a word that is neither true nor false is the default",
        "X=on; trueorfalse False X > f",
        ["False"],
    ),
    (
        "waiting twice for the same task is allowed",
        "async_runfunc true; async_wait true; async_wait true; echo 1 > f",
        ["1"],
    ),
    (
        "lib/nova and lib/placement assign what was set before",
        "NOVA_FILTERS=mine; PLACEMENT_UWSGI=mine; load_libs;"
        "echo $PLACEMENT_UWSGI > f; [[ $NOVA_FILTERS != mine ]]",
        ["placement.wsgi.api:application"],
    ),
]


@pytest.mark.parametrize(
    ("command", "expected"),
    [pytest.param(*case[1:], id=case[0]) for case in CASES],
)
def test_what_devstack_does(machine, command, expected):
    machine.run("call", f"cd $SANDBOX; {command}")
    assert (machine.path / "f").read_text().splitlines() == expected


@pytest.mark.parametrize(
    ("written", "merged"),
    [
        pytest.param('{"a": "b"}', "{a: b}", id="quotes are lost"),
        pytest.param(r"{\"a\":1}", "{a:1}", id="once escaped, too"),
        pytest.param(
            r"{\\\"a\\\":1}", '{"a":1}', id="three backslashes keep them"
        ),
    ],
)
def test_local_conf_is_read_and_evaluated(machine, written, merged):
    machine.extra_local_conf = f"[[extra|$SANDBOX/f]]\n[s]\no = {written}\n"
    machine.run("call", "merge_config_group $TOP_DIR/local.conf extra")
    assert (machine.path / "f").read_text().split("\n")[-2] == f"o = {merged}"


def test_an_option_that_stands_twice_in_local_conf_replaces_all(machine):
    (machine.path / "f").write_text("[s]\no = 1\no = 2\no = 3\n")
    machine.extra_local_conf = "[[extra|$SANDBOX/f]]\n[s]\no = x\no = y\n"
    machine.run("call", "merge_config_group $TOP_DIR/local.conf extra")
    assert (machine.path / "f").read_text() == "[s]\no = x\no = y\n"


@pytest.mark.parametrize(
    ("services", "asked", "enabled"),
    [
        ("n-api,q-svc", "n-api", True),
        ("n-api,q-svc", "n-sch", False),
        ("n-api,q-svc", "n-sch n-api", True),
        ("n-api-meta", "n-api", False),
        ("n-api-meta", "nova", True),
        ("placement-client", "placement-api", False),
    ],
)
def test_a_service_is_enabled_by_its_whole_name(
    machine, services, asked, enabled
):
    done = machine.run(
        "call",
        f"ENABLED_SERVICES={services}; is_service_enabled {asked}",
        check=False,
    )
    assert (done.returncode == 0) == enabled
