# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""The command line client against a server that does as it is told."""
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import time

import pytest

import fake_server

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SLUICE = os.environ.get("SLUICE", str(SOURCE / "build" / "sluice"))
UTC = {"TZ": "UTC"}


@pytest.fixture
def fake():
    server = fake_server.Fake()
    yield server
    server.close()


def environment(fake, **changes):
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE")}
    env.update(SLUICE_URL=fake.url, SLUICE_TOKEN=fake_server.TOKEN, **UTC)
    env.update(changes)
    return env


@pytest.fixture
def sluice(fake, tmp_path):
    def run(*args, code=0, env=None):
        done = subprocess.run([SLUICE, *map(str, args)], capture_output=True, timeout=30, cwd=tmp_path,
                              env=environment(fake, **(env or {})), check=False)
        assert done.returncode == code, (done.stdout[-2000:], done.stderr)
        return done

    return run


def until(check, seconds=10):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# start


def test_start_prints_the_id_and_returns(fake, sluice):
    done = sluice("start", "-i", "tap0", "-i", "tap1", "-c", 10, "-s", 96, "-Q", "inout", "--seconds", 5,
                  "--bytes", "2K", "--sample", "flow:100", "--name", "n", "--notes", "why", "tcp", "port", "443")
    assert done.stdout.decode() == "00000000-0000-4000-8000-000000000000\n"
    assert done.stderr == b""
    assert fake.requests == [("POST", "/api/v1/captures", "", {
        "ports": ["tap0", "tap1"], "limits": {"packets": 10, "seconds": 5, "bytes": 2048}, "snaplen": 96,
        "direction": "both", "sampling": {"mode": "flow", "n": 100}, "name": "n", "notes": "why",
        "filter": "tcp port 443"})]


def test_start_takes_parts_of_a_second_and_zero_as_no_limit(fake, sluice):
    sluice("start", "--seconds", "0.5", "-c", 0, "--bytes", 0)
    sluice("start", "--seconds", "0", "--bytes", "0K")
    sluice("start", "--seconds", "2.0")
    assert [request[3] for request in fake.requests] == [
        {"limits": {"seconds": 0.5}}, {"limits": {}}, {"limits": {"seconds": 2}}]


def test_start_without_anything_asks_for_everything(fake, sluice):
    sluice("start")
    assert fake.requests[0][3] == {"limits": {}}


def test_flags_may_stand_behind_the_filter_and_words_behind_dashes(fake, sluice):
    sluice("start", "ip", "-c", "3", "--", "and", "ip[0] & -1 != 0")
    assert fake.requests[0][3] == {"limits": {"packets": 3}, "filter": "ip and ip[0] & -1 != 0"}


def test_start_json_prints_the_capture(fake, sluice):
    for args in (["--json", "start"], ["start", "--json"]):
        assert json.loads(sluice(*args).stdout)["state"] == "running"


def test_start_with_file_waits_for_the_limit_and_leaves_the_file(fake, sluice, tmp_path):
    (tmp_path / "out.pcapng").write_bytes(b"old")
    done = sluice("start", "-w", "out.pcapng", "--seconds", 1)
    assert done.stdout == done.stderr == b""
    assert (tmp_path / "out.pcapng").read_bytes() == fake_server.FILE
    assert os.listdir(tmp_path) == ["out.pcapng"]
    assert ("POST", "/api/v1/captures/00000000-0000-4000-8000-000000000000/stop", "", None) not in fake.requests


def test_start_to_standard_output(fake, sluice):
    assert sluice("start", "-w", "-", "--seconds", 1).stdout == fake_server.FILE


def test_start_json_with_file_prints_the_closed_capture(fake, sluice):
    assert json.loads(sluice("start", "--json", "-w", "x", "--seconds", 1).stdout)["state"] == "complete"


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_stops_waits_and_downloads(fake, tmp_path, kind):
    client = subprocess.Popen([SLUICE, "start", "-w", "out", "icmp"], cwd=tmp_path, env=environment(fake),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: len(fake.requests) > 2)
    client.send_signal(kind)
    out, err = client.communicate(timeout=20)
    assert (client.returncode, out, err) == (0, b"", b"")
    assert (tmp_path / "out").read_bytes() == fake_server.FILE
    assert sum(request[1].endswith("/stop") for request in fake.requests) == 1


def test_second_signal_gives_up_and_leaves_nothing(fake, tmp_path):
    fake.stop_seconds = 5
    client = subprocess.Popen([SLUICE, "start", "-w", "out"], cwd=tmp_path, env=environment(fake),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: len(fake.requests) > 2)
    client.send_signal(signal.SIGINT)
    until(lambda: fake.requests[-1][1].endswith("/stop"))
    time.sleep(0.4)
    begun = time.monotonic()
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=20)
    assert time.monotonic() - begun < 3
    assert client.returncode == 1 and b"interrupted" in err
    assert os.listdir(tmp_path) == []


def test_failed_capture_is_kept_and_told(fake, sluice, tmp_path):
    fake.fail = True
    fake.final = fake_server.ledger(offered=5, accepted=5, written=3, dropped={"io_error": 2})
    done = sluice("start", "-w", "out", "--seconds", 1, code=1)
    assert b"2 packets dropped: io_error 2" in done.stderr
    assert b"io_error: the disk refused the data" in done.stderr
    assert (tmp_path / "out").read_bytes() == fake_server.FILE


def test_unwritable_file_begins_no_capture(fake, sluice):
    assert b"nowhere" in sluice("start", "-w", "nowhere/out", code=1).stderr
    assert fake.requests == []


def test_refused_capture_leaves_the_old_file(fake, sluice, tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    done = sluice("start", "-w", "out", "nonsense", code=1)
    assert done.stderr == b'sluice: /filter: syntax error at "nonsense" (400)\n'
    assert (tmp_path / "out").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_field_is_named_once(sluice):
    done = sluice("start", *["-i", "a"] * 4, code=1)
    assert done.stderr == b"sluice: ports.3: no such port (400)\n"


def test_one_interrupt_that_arrives_twice_is_one(fake, tmp_path):
    client = subprocess.Popen([SLUICE, "start", "-w", "out"], cwd=tmp_path, env=environment(fake))
    until(lambda: len(fake.requests) > 2)
    client.send_signal(signal.SIGINT)
    time.sleep(0.02)
    client.send_signal(signal.SIGINT)
    assert client.wait(20) == 0
    assert (tmp_path / "out").read_bytes() == fake_server.FILE


def on_terminal(fake, tmp_path, *args):
    """Run with standard error on a terminal; what it showed."""
    leader, follower = pty.openpty()
    client = subprocess.Popen([SLUICE, *args], cwd=tmp_path, env=environment(fake), stdout=subprocess.PIPE,
                              stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        select.select([leader], [], [], 20)
        try:
            shown += os.read(leader, 4096)
        except OSError:
            break
    os.close(leader)
    assert client.wait(20) == 0
    return shown.decode()


def test_progress_on_a_terminal(fake, tmp_path):
    fake.final = fake_server.ledger(offered=70, accepted=70, written=60, dropped={"no_block": 10})
    shown = on_terminal(fake, tmp_path, "start", "-w", "out", "--seconds", "1")
    assert re.search(r"0:00  running  30 packets 0/s  0 B 0 B/s  dropped 0", shown)
    assert "dropped 10: no_block 10" in shown
    assert "60 packets captured (time_limit)" in shown
    assert "10 packets dropped: no_block 10" in shown


# usage and connection


@pytest.mark.parametrize("args, said", [
    ([], "usage: sluice"),
    (["nope"], "nope is no command"),
    (["list", "-n", "0"], "--limit: 0, allowed: a number from 1"),
    (["start", "-c", "x"], "--packets: x, allowed: a number from 0"),
    (["start", "-c", "-1"], "--packets: -1, allowed"),
    (["start", "--seconds", "-1"], "--seconds: -1, allowed: a number from 0"),
    (["start", "--seconds", "."], "--seconds: ., allowed"),
    (["start", "--seconds", "1.5.5"], "--seconds: 1.5.5, allowed"),
    (["start", "--seconds", "inf"], "--seconds: inf, allowed"),
    (["start", "--seconds", "9" * 400], "--seconds: 9"),
    (["start", "--seconds", ""], "--seconds: , allowed"),
    (["start", "--bytes", "1X"], "K M G T"),
    (["start", "--bytes", "99999999999T"], "--bytes"),
    (["start", "-Q", "up"], "in, out or inout"),
    (["start", "--sample", "flow"], "flow:N"),
    (["start", "--sample", "flow:0"], "flow:N"),
    (["start", "--sample", "flow:2x"], "flow:N"),
    (["start", b"caf\xe9"], "not valid UTF-8"),
    (["start", "--frobnicate"], "frobnicate"),
    (["start", "-w"], "requires an argument"),
    (["show"], "usage: sluice show ID..."),
    (["watch", "a", "b"], "usage: sluice watch [flags] ID"),
    (["list", "x"], "usage: sluice list"),
    (["token", "add"], "allowed: list, add NAME"),
    (["token", "add", "x"], "--role is missing"),
    (["--token-file", "/nonexistent", "list"], "/nonexistent"),
])
def test_bad_usage_is_2_and_asks_nothing(fake, tmp_path, args, said):
    done = subprocess.run([SLUICE, *args], capture_output=True, cwd=tmp_path, env=environment(fake),
                          timeout=20, check=False)
    assert done.returncode == 2, done
    assert said in done.stderr.decode() and done.stdout == b""
    assert fake.requests == []


COMMANDS = "start list show change stop watch download packets delete ports status balance token".split()


def test_help_names_every_command_and_flag(sluice):
    text = sluice("--help").stdout.decode()
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", text, re.M)
        assert sluice(command, "--help").stdout.decode().startswith(f"usage: sluice {command}")
    text = sluice("start", "-h").stdout.decode()
    for flag in "-i -w -c -s -Q --seconds --bytes --sample --name --notes --url --token-file --json".split():
        assert re.search(rf"(^| ){flag}\b", text, re.M), flag


def test_no_server_is_3(sluice):
    done = sluice("list", code=3, env={"SLUICE_URL": "http://127.0.0.1:1"})
    assert b"127.0.0.1:1" in done.stderr


def test_only_http_is_spoken(sluice, tmp_path):
    (tmp_path / "api").mkdir()
    sluice("--url", f"file://{tmp_path}", "status", code=3)


def test_wrong_token_is_1_and_says_where_tokens_come_from(sluice):
    done = sluice("list", code=1, env={"SLUICE_TOKEN": "wrong"})
    assert b"a valid token is needed (401)" in done.stderr and b"SLUICE_TOKEN" in done.stderr


def test_token_file_goes_before_the_environment(sluice, tmp_path):
    (tmp_path / "secret").write_text(fake_server.TOKEN + "\n", encoding="ascii")
    sluice("list", "--token-file", "secret", env={"SLUICE_TOKEN": "wrong"})


def test_url_goes_before_the_environment(fake, sluice):
    sluice("--url", fake.url, "list", env={"SLUICE_URL": "http://127.0.0.1:1"})


def test_no_proxy_sees_the_token(sluice):
    sluice("list", env={"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"})


def test_full_standard_output_is_an_error(fake):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([SLUICE, "status"], stdout=full, stderr=subprocess.PIPE, timeout=20,
                              env=environment(fake), check=False)
    assert done.returncode == 1 and b"standard output" in done.stderr


# captures that are there


def test_list_aligns_and_follows_the_cursor(fake, sluice):
    for i in range(5):
        fake.add({"name": f"n{i}"}, ledger=fake_server.ledger(written=1234567, dropped={"quota": 2}))
    lines = sluice("list", "-n", 2, "--all").stdout.decode().splitlines()
    assert len(lines) == 6
    assert lines[0].split() == "ID STATE NAME PORTS STARTED PACKETS DURABLE DROPPED SIZE FILTER".split()
    assert lines[1].split()[1:] == ["running", "n4", "tap0", "2026-11-20", "22:00:00", "1.23", "M", "0", "2", "0", "B"]
    assert {line.index("running") for line in lines[1:]} == {lines[0].index("STATE")}
    assert len(sluice("list", "-n", 2).stdout.splitlines()) == 3
    assert len(json.loads(sluice("list", "--json").stdout)["captures"]) == 5
    assert any(request[2] == "limit=2&cursor=4" for request in fake.requests)


def test_list_state_is_escaped(fake, sluice):
    sluice("list", "--state", "a&b=c")
    assert fake.requests[0][2] == "limit=100&state=a%26b%3Dc"


def test_show_is_for_people_in_local_time(fake, sluice):
    capture = fake.add({"name": "x", "filter": "tcp", "limits": {"packets": 10000, "seconds": 0.5}}, state="complete",
                       size_bytes=12345678,
                       ledger=fake_server.ledger(offered=1234567, dropped={"no_block": 5000}))
    text = sluice("show", capture["id"], env={"TZ": "UTC-2"}).stdout.decode()
    for line in (r"^name +x$", r"^filter +tcp  \(jit\)$", r"^limit packets +10,000$", r"^limit seconds +0\.5$",
                 r"^offered +1,234,567$",
                 r"^started +2026-11-21 00:00:00$", r"^size +12,345,678 \(12\.3 MB\)$",
                 r"^dropped +5,000$", r"^ +no_block 5,000$"):
        assert re.search(line, text, re.M), (line, text)
    assert json.loads(sluice("show", "--json", capture["id"]).stdout)["name"] == "x"


def test_unknown_capture_is_1_for_every_command(sluice):
    for command in "show stop watch download delete balance packets".split():
        assert sluice(command, "no such?x", code=1).stderr == b"sluice: no such capture (404)\n"


def test_stop_and_delete(fake, sluice):
    first, second = fake.add(), fake.add()
    assert sluice("stop", first["id"], second["id"]).stdout == b""
    assert fake.captures[second["id"]]["reason"] == "stopped"
    sluice("delete", first["id"])
    assert list(fake.captures) == [second["id"]]


def test_change(fake, sluice):
    capture = fake.add()
    assert sluice("change", capture["id"], "--notes", "n", "-c", "0", "--seconds", "0.5").stdout == b""
    assert capture["notes"] == "n" and capture["limits"] == {"packets": 0, "seconds": 0.5}
    assert fake.requests[-1][3] == {"notes": "n", "limits": {"packets": 0, "seconds": 0.5}}
    for bad in ("x", "", "1 2"):
        assert b"--packets" in sluice("change", capture["id"], "-c", bad, code=2).stderr
    assert len(fake.requests) == 1


def test_watch_ends_with_the_capture(fake, sluice):
    capture = fake.add({"limits": {"seconds": 1}})
    lines = sluice("watch", capture["id"]).stdout.decode().splitlines()
    assert lines[0] == "running offered 50 accepted 30 written 20 durable 0 in_flight 10 dropped 0"
    assert lines[-1] == "complete offered 100 accepted 60 written 60 durable 60 in_flight 0 dropped 0"


def test_download(fake, sluice, tmp_path):
    capture = fake.add({"limits": {"seconds": 0.01}})
    fake.converting_seconds = 0
    time.sleep(0.1)
    name = f"{capture['id']}.pcapng"
    assert sluice("download", capture["id"]).stdout.decode() == name + "\n"
    assert (tmp_path / name).read_bytes() == fake_server.FILE
    assert sluice("download", capture["id"], "-w", "-", "--format", "pcap").stdout == fake_server.FILE
    assert fake.requests[-1][2] == "format=pcap"
    sluice("download", capture["id"], "-w", "/dev/null")


def test_download_of_a_running_capture_needs_partial(fake, sluice, tmp_path):
    capture = fake.add()
    done = sluice("download", capture["id"], "-w", "x", code=1)
    assert done.stderr == b"sluice: the capture is not closed (409)\n"
    assert os.listdir(tmp_path) == []
    sluice("download", capture["id"], "-w", "x", "--partial")
    assert (tmp_path / "x").read_bytes() == fake_server.FILE


def test_download_to_a_full_disk(fake, sluice):
    fake.add(state="complete")
    assert b"No space left" in sluice("download", next(iter(fake.captures)), "-w", "/dev/full", code=1).stderr


def test_packets_are_a_table(fake, sluice):
    capture = fake.add()
    fake.packets = [
        {"number": 1, "time": "2026-11-20T22:00:00.000000000Z", "src_mac": "02:00:00:00:00:01",
         "dst_mac": "02:00:00:00:00:02", "src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "src_port": 1024,
         "dst_port": 443, "protocol": "TCP", "length": 1514, "info": "SYN"},
        {"number": 2, "time": "2026-11-20T22:00:00.000000001Z", "src_mac": "02:00:00:00:00:01",
         "dst_mac": "02:00:00:00:00:02", "src_ip": None, "dst_ip": None, "src_port": None,
         "dst_port": None, "protocol": "ARP", "length": 60, "info": ""}]
    lines = sluice("packets", capture["id"], "-n", 2).stdout.decode().splitlines()
    assert fake.requests[-1][2] == "offset=0&limit=2" and len(lines) == 3
    assert lines[1].split()[2:] == ["10.0.0.1.1024", "10.0.0.2.443", "TCP", "1,514", "SYN"]
    assert lines[2].split()[2:] == ["02:00:00:00:00:01", "02:00:00:00:00:02", "ARP", "60"]


def test_watch_packets_and_raw_go_out_as_they_come(fake, sluice):
    capture = fake.add()
    fake.live = b"2026-11-20T22:00:00.000000000Z ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28\n"
    assert sluice("watch", "--packets", capture["id"]).stdout == fake.live
    assert fake.requests[-1][1].endswith("/live") and fake.requests[-1][2] == "format=text"
    fake.live = bytes(range(256))
    assert sluice("watch", "--raw", capture["id"]).stdout == fake.live
    assert fake.requests[-1][2] == ""


# the host


def test_ports(fake, sluice):
    lines = sluice("ports").stdout.decode().splitlines()
    assert lines[1].split() == ["tap0", "eth0", "af_packet", "up", "10.0", "Gb/s", "1500", "1", "exact", "97",
                                "90", "2", "1"]
    assert json.loads(sluice("ports", "--json").stdout) == {"ports": fake.ports}


def test_status(sluice):
    text = sluice("status").stdout.decode()
    assert "up 1:02:05" in text and "1,000 of 1,024 free" in text and "1.00 GB used (spares 500 MB)" in text
    assert "2.00 GB/s, 1.00 GB/s on new space; writes of 4.19 MB, 8 in flight" in text
    for line in (
        "bottleneck  disk, since 20",
        "because     9 packets a second found no free block",
        "captures    bring 1.50 GB/s of 1.20 GB/s, 0 B/s left; overload since 20",
        "; 1 degraded (on overload: degrade)",
        "nic         tap0: 1.20 M packets/s; lost: missed 3/s, no buffer 0/s, errors 1/s (visible: exact)",
        "rx_core     lcore 1 on CPU 1: busy 97 %, without its CPU 2 %, full polls 99 %",
        "blocks      0 of 1,024 free at worst; packets that found none 9/s",
        "            writer on CPU 0: busy 12 %, without its CPU 0 %",
        "disk        1.18 GB/s, 98 % of its ceiling, 1.20 GB/s; a write in flight 100 % of the time, "
        "31 of at most 32 now, 0 slow",
    ):
        assert line in text, text


def test_tokens(fake, sluice):
    assert sluice("token", "add", "ci", "--role", "viewer", "--account", "*").stdout == b"new-secret\n"
    assert fake.requests[-1][3] == {"name": "ci", "role": "viewer", "account": "*"}
    assert sluice("token", "list").stdout.decode().splitlines()[1].split() == ["admin", "admin", "*", "-"]
    sluice("token", "delete", "a b")
    assert fake.requests[-1][:2] == ("DELETE", "/api/v1/tokens/a%20b")


# the books


def test_balance_holds(fake, sluice):
    fake.add(state="complete", ledger=fake_server.ledger(
        offered=100, filtered=10, sampled_out=20, over_limit=5, accepted=65, written=60, durable=60,
        unknown=1, dropped={"no_block": 3, "quota": 1}))
    fake.add()
    text = sluice("balance").stdout.decode()
    assert "BROKEN" not in text and text.count(" ok\n") == 4 + 3 + 2


BROKEN = [
    {"offered": 1},
    {"accepted": 1, "offered": 1},
    {"accepted": 1, "offered": 1, "written": 2},
    {"accepted": 1, "offered": 1, "in_flight": 1},
    {"durable": 1},
]


@pytest.mark.parametrize("counts", BROKEN, ids=str)
def test_balance_of_a_closed_capture_fails(fake, sluice, counts):
    capture = fake.add(state="complete", ledger=fake_server.ledger(**counts))
    for args in ([], [capture["id"]]):
        done = sluice("balance", *args, code=1)
        assert b"BROKEN" in done.stdout and b"a law of the books fails" in done.stderr
    laws = json.loads(sluice("balance", "--json", code=1).stdout)
    assert any(not law["holds"] and law["residual"] != 0 for law in laws)


def test_balance_of_a_running_capture_may_lag_but_not_lead(fake, sluice):
    capture = fake.add(ledger=fake_server.ledger(offered=10, accepted=8, written=7))
    sluice("balance", capture["id"])
    capture["ledger"] = fake_server.ledger(offered=10, accepted=8, filtered=2, written=9)
    sluice("balance", capture["id"], code=1)


@pytest.mark.parametrize("counters, visibility, code", [
    ({}, "exact", 0),
    ({"offered": 101}, "exact", 1),
    ({"offered": 99}, "exact", 1),
    ({"offered": 101}, "lower_bound", 0),
    ({"offered": 0}, "none", 0),
    ({"matched": 91}, "none", 1),
])
def test_balance_of_ports(fake, sluice, counters, visibility, code):
    fake.ports = [fake_server.port(counters=counters, loss_visibility=visibility)]
    sluice("balance", code=code)


def test_balance_of_a_port_under_traffic(fake, sluice):
    class Moving(list):
        looks = 0

        def __iter__(self):
            self.looks += 1
            n = self.looks * 1000
            # rx is read after offered and is ahead of it
            return iter([fake_server.port(counters={"offered": n, "rx": n + 5, "nic_missed": 0, "nic_errors": 0,
                                                    "nic_nombuf": 0, "matched": n + 5, "unmatched": 0})])

    moving = Moving()
    fake.get_ports = lambda handler, *_: fake.reply(handler, 200, {"ports": list(moving)})
    text = sluice("balance").stdout.decode()
    assert "-5" in text and "BROKEN" not in text
