#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenario of contrib/quickstart/run, once everything is built."""
import argparse
import json
import os
import signal
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "..", "tests", "lib"))
from guestlab import GuestLab  # noqa: E402

KINDS = {"tcp-out": "TCP from the guest", "tcp-in": "TCP to the guest",
         "tcp-snat": "TCP through SNAT with a port range",
         "tcp-dnat": "TCP through DNAT of the floating address",
         "udp-snat": "UDP exchange through SNAT",
         "ping-snat": "ping through SNAT",
         "tcp6-out": "TCP from the guest, IPv6",
         "tcp6-in": "TCP to the guest, IPv6"}


def say(text):
    print("==> " + text, flush=True)


def tell(result):
    """What became of the connections, kind by kind."""
    for kind, (alive, total) in result["kinds"].items():
        if total:
            print(f"    {KINDS[kind]}: {alive} of {total} alive", flush=True)
    reasons = {}
    for dead in result["dead"]:
        key = dead["kind"], dead["why"]
        reasons[key] = reasons.get(key, 0) + 1
    for (kind, why), count in list(reasons.items())[:8]:
        print(f"    {count} dead ({KINDS[kind]}): {why}", flush=True)


def scenario(args, report):
    say("making two hosts and a peer as network namespaces, with strict "
        "stateful firewalls")
    with GuestLab(args.flows) as lab:
        lab.start_peer()
        say("booting a Linux guest on host A")
        lab.start_guest(lab.a, secure=not args.without)
        lab.open_flows()
        before = lab.ask("verify 60")
        report["flows_before"] = before["alive"]
        say(f"{before['alive']} connections are open and carry data both "
            "ways")
        source, destination = lab.a, lab.b
        downtimes = []
        for number in range(args.rounds):
            lab.start_guest(destination, incoming=True,
                            secure=not args.without)
            say(f"(hmp) migrate -d tcp:{destination.address}:4444      "
                f"on host {source.name}" +
                (", the context left behind" if args.without else ""))
            moved = lab.move(source, destination)
            context = moved["context"]
            downtimes.append(moved["downtime_ms"])
            after = lab.ask(f"verify {15 if args.without else 60}")
            report.update(
                suite=context.get("suite"), kem=context.get("kem"),
                peer=context.get("peer"), flows_after=after["alive"],
                flows_survived=after["alive"], rounds=number + 1,
                context_bytes=context.get("context-bytes", 0),
                downtime_ms=moved["downtime_ms"],
                freeze_ms=round(context.get("freeze-us", 0) / 1000, 3),
                total_ms=moved["total_ms"], kinds=after["kinds"])
            say(f"the guest runs on host {destination.name}; "
                f"{after['alive']} of {before['alive']} connections survived")
            tell(after)
            if context:
                print(f"    moved: {context.get('flows')} conntrack flows, "
                      f"{context.get('context-bytes')} bytes, to "
                      f"{context.get('peer')}, encrypted with "
                      f"{context.get('suite')}")
            print(f"    the guest stood still for {moved['downtime_ms']} ms, "
                  f"the migration took {moved['total_ms']} ms", flush=True)
            survived = after["alive"] == before["alive"]
            if not survived or number + 1 == args.rounds:
                break
            source.stop_qemu()
            source, destination = destination, source
        if len(downtimes) > 1:
            say(f"{len(downtimes)} migrations, {after['alive']} of "
                f"{before['alive']} connections alive and every byte right; "
                f"the guest stood still for {statistics.median(downtimes)} ms"
                f" (median), {max(downtimes)} ms at most")
        report["downtimes_ms"] = downtimes
        if args.keep:
            stay(lab, destination)
        return survived and report["flows_before"] == args.flows


def stay(lab, host):
    """Until the user has looked around; leaving the lab cleans up."""
    inside = f"ip netns exec {host.netns}"
    options = " ".join(host.options)
    say(f"the guest stays on host {host.name}; in another shell, as root:")
    print(f"    {inside} conntrack -L\n"
          f"    {inside} {os.environ['MIGRATION_SC']} status {options}\n"
          f"    logs, and the guest's console: {lab.dir}/*/*.log", flush=True)
    say(f"Ctrl-C, or kill {os.getpid()}, ends it and removes everything")
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def main():
    parser = argparse.ArgumentParser(prog="contrib/quickstart/run",
                                     description="""Builds everything, moves
a Linux guest between two hosts (network namespaces of this machine) and shows
what becomes of its connections. As root. Exit status 0 only if every
connection survived.""")
    parser.add_argument("--without", action="store_true",
                        help="leave the security context behind")
    parser.add_argument("--flows", type=int, default=50, metavar="N",
                        help="how many connections (default 50, most 4096), "
                        "three quarters of them TCP")
    parser.add_argument("--rounds", type=int, default=1, metavar="N",
                        help="migrate N times, there and back")
    parser.add_argument("--keep", action="store_true",
                        help="afterwards keep the hosts and the guest, to "
                        "look around, until Ctrl-C")
    parser.add_argument("--json", metavar="FILE", help="write the result")
    args = parser.parse_args()
    if not 1 <= args.flows <= 4096 or args.rounds < 1:
        parser.error("--flows is 1 to 4096, --rounds at least 1")
    if os.environ.get("MSC_CHECK_ARGUMENTS"):
        return 0
    # Leaves the with block, which takes the lab down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = {"without": args.without, "flows_survived": 0}
    survived = False
    try:
        survived = scenario(args, report)
    except (RuntimeError, OSError) as err:
        report["error"] = str(err)
        print(f"quickstart: {err}", file=sys.stderr)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(report, out, indent=2)
            out.write("\n")
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
