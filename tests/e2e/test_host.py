# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""scripts/host: what it would do to a machine with NICs, and what it does to this one."""
import os
import pathlib

import pytest

import harness

HOST = harness.SOURCE / "scripts" / "host"
NIC = "0000:3b:00.0"


@pytest.fixture
def machine(tmp_path):
    """A machine of files: two NUMA nodes, 8 CPUs, a NIC that is idle and a disk controller."""
    sys = tmp_path / "sys"
    for pages in (
        sys / "kernel/mm/hugepages/hugepages-2048kB",
        sys / "devices/system/node/node1/hugepages/hugepages-2048kB",
    ):
        pages.mkdir(parents=True)
        for name in ("nr_hugepages", "free_hugepages"):
            (pages / name).write_text("0\n")
    cpu = sys / "devices/system/cpu"
    cpu.mkdir(parents=True)
    (cpu / "online").write_text("0-7\n")
    (cpu / "isolated").write_text("\n")
    workqueue = sys / "devices/virtual/workqueue"
    workqueue.mkdir(parents=True)
    (workqueue / "cpumask").write_text("ff\n")
    drivers = sys / "bus/pci/drivers"
    for name in ("ice", "vfio-pci"):
        (drivers / name).mkdir(parents=True)
        (drivers / name / "unbind").write_text("")
    (sys / "bus/pci/drivers_probe").write_text("")
    for address, kind in ((NIC, "0x020000"), ("0000:00:1f.2", "0x010601")):
        device = sys / "bus/pci/devices" / address
        (device / "net" / "sluicetest9").mkdir(parents=True)
        (device / "class").write_text(kind + "\n")
        (device / "driver_override").write_text("(null)\n")
        (device / "driver").symlink_to(drivers / "ice")
    for irq in ("7", "121"):
        path = tmp_path / "proc/irq" / irq
        path.mkdir(parents=True)
        (path / "smp_affinity_list").write_text("0-7\n")

    def host(*words, check=True):
        env = {**os.environ, "SLUICE_HOST_SYS": str(sys), "SLUICE_HOST_PROC": str(tmp_path / "proc")}
        return harness.run(HOST, *words, check=check, env=env)

    host.sys, host.proc = sys, tmp_path / "proc"
    return host


def everything(machine):
    return {
        path: path.read_text() for top in (machine.sys, machine.proc) for path in top.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("words", [
    ("hugepages", "512"), ("hugepages", "64", "1"), ("bind", NIC), ("isolate", "1-3,5"),
])
def test_a_dry_run_changes_nothing(machine, words):
    before = everything(machine)
    said = machine("--dry-run", *words).stdout
    assert "would write" in said and "wrote" not in said
    assert everything(machine) == before


def test_hugepages_of_all_or_of_a_node(machine):
    machine("hugepages", "512")
    machine("hugepages", "64", "1")
    at = "hugepages-2048kB/nr_hugepages"
    assert (machine.sys / "kernel/mm/hugepages" / at).read_text() == "512\n"
    assert (machine.sys / "devices/system/node/node1/hugepages" / at).read_text() == "64\n"
    assert machine("hugepages", "64", "7", check=False).returncode == 1


def test_a_device_is_told_its_driver(machine):
    """The kernel's part, to move the device, does not happen among files: that is noticed."""
    done = machine("bind", "3b:00.0", check=False)
    assert done.returncode == 1 and "has the driver ice, not vfio-pci" in done.stderr
    assert (machine.sys / "bus/pci/devices" / NIC / "driver_override").read_text() == "vfio-pci\n"
    assert (machine.sys / "bus/pci/drivers/ice/unbind").read_text() == NIC + "\n"
    assert (machine.sys / "bus/pci/drivers_probe").read_text() == NIC + "\n"
    assert "no IOMMU" in done.stderr


def test_devices_in_use_stay(machine):
    master = machine.sys / "class/net/sluicetest9"
    master.mkdir(parents=True)
    (master / "master").write_text("")
    done = machine("bind", NIC, check=False)
    assert done.returncode == 1 and "in use" in done.stderr


def test_isolation_leaves_the_rest(machine):
    said = machine("isolate", "1-3,5").stdout
    assert "isolcpus=managed_irq,domain,1-3,5 nohz_full=1-3,5 rcu_nocbs=1-3,5 irqaffinity=0,4,6-7" in said
    for irq in ("7", "121"):
        assert (machine.proc / "irq" / irq / "smp_affinity_list").read_text() == "0,4,6-7\n"
    assert (machine.sys / "devices/virtual/workqueue/cpumask").read_text() == "d1\n"


@pytest.mark.parametrize("words, code, word", [
    ((), 2, "hugepages N"),
    (("hugepages",), 2, "how many"),
    (("hugepages", "-1"), 2, "whole number"),
    (("hugepages", "1;id"), 2, "whole number"),
    (("bind", "eth0"), 2, "PCI address"),
    (("bind", "../../x"), 2, "PCI address"),
    (("bind", "0000:99:00.0"), 1, "no PCI device"),
    (("bind", "0000:00:1f.2"), 1, "not a network device"),
    (("unbind", NIC), 1, "not vfio-pci's but ice's"),
    (("isolate", "1-"), 2, "list of CPUs"),
    (("isolate", "3-1"), 2, "range of CPUs"),
    (("isolate", "8"), 1, "no CPU 8"),
    (("isolate", "0-7"), 1, "must be left"),
    (("frobnicate",), 2, "no frobnicate"),
])
def test_what_makes_no_sense_is_refused(machine, words, code, word):
    before = everything(machine)
    done = machine(*words, check=False)
    assert done.returncode == code and word in done.stderr, done.stderr
    assert everything(machine) == before


def test_this_machine():
    said = harness.run(HOST, "show").stdout
    assert "cpus: " in said
    control = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    if not control.exists() or not os.access(control, os.W_OK):
        pytest.skip("hugepages: cannot be reserved here")
    before = int(control.read_text())
    try:
        harness.run(HOST, "hugepages", before + 8)
        assert int(control.read_text()) == before + 8
    finally:
        harness.run(HOST, "hugepages", before)
    assert int(control.read_text()) == before
