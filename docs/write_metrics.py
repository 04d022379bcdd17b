"""Write the tables of ``docs/metrics.md`` from the code that counts: ``python -m docs.write_metrics``.

The words around them and the labels stand here; a test compares it with what is really exposed.
"""  # noqa: INP001

# ruff: noqa: E501  # prose is wrapped for its own page

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import NamedTuple

from proxy.admin import metrics
from proxy.telemetry import families
from proxy.telemetry.exposition import PREFIX

PAGE = Path(__file__).with_name("metrics.md")

BEGINNING = """# Metrics

<!-- Written by `python -m docs.write_metrics` from proxy/telemetry/families.py and proxy/admin/metrics.py. Do not edit it here. -->

`/metrics` on the admin address (`admin: {bind: 127.0.0.1:7414}`), in the text format of Prometheus, and as OpenMetrics for
whoever asks for it. Names and labels are stable; `upstream` is the cluster's name, as Prometheus setups have a label `cluster` of their
own. All workers are added up; a worker that is replaced takes its
numbers along, so no counter falls; so does an upgrade. A restart begins at 0, as Prometheus expects.

```yaml
admin: {bind: 127.0.0.1:7414}
```

Ready-made, in [deploy/monitoring](../deploy/monitoring): a scrape configuration, alert rules, a Grafana dashboard.

## What to look at

| question | expression |
|---|---|
| Does it save anything? | `rate(tfoproxy_saved_round_trips_total[5m])` |
| How many seconds a minute, what it cost taken off? | `60 * (rate(tfoproxy_saved_seconds_total[5m]) - rate(tfoproxy_lost_seconds_total[5m]))` |
| How often does Fast Open work? | `sum(rate(tfoproxy_dials_total{evidence="syn_data_acked"}[5m])) / sum(rate(tfoproxy_dials_total[5m]))` |
| What is the first byte like, with and without? | `histogram_quantile(0.9, sum by (le, way) (rate(tfoproxy_first_byte_seconds_bucket[5m])))` |
| Has everything been warmed up? | `tfoproxy_warm_up_endpoints{outcome="waiting"} == 0` |
| Which endpoints are in quarantine? | `tfoproxy_endpoint_standing{standing="quarantined"}` |
| Do sessions fail? | `rate(tfoproxy_sessions_failed_total[5m])` |
| Is somebody turned away? | `sum by (listener, reason) (rate(tfoproxy_refused_total[5m]))` |
| Does anything keep sessions waiting inside the proxy? | `rate(tfoproxy_loop_stalls_total[5m])`, `tfoproxy_loop_longest_stall_seconds` |
| Are log lines missing? | `rate(tfoproxy_log_lines_lost_total[5m])` |
| Was the last reload refused? | `tfoproxy_config_last_reload_successful == 0` |

`saved` and `lost` are against a plain dial at the same moment; what each session saved stands in its log line, and the sums
agree. `evidence` and the words of `endings_total` are those of [log.md](log.md). At most 200 endpoints have series of their own;
the others are told together, as `endpoint="other"`.
"""

GROUPS = {
    "Sessions": families,
    "The program, its endpoints and its workers": metrics,
}


class Family(NamedTuple):
    """One metric: its name with the prefix, its kind, its labels, its meaning."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


LABELS = {  # of families whose samples take them from elsewhere
    "connections_total": ("listener",), "open_sessions": ("listener",), "refused_total": ("listener", "reason"),
    "dials_total": ("listener", "upstream", "evidence"), "session_duration_seconds": ("listener", "upstream"),
    "first_byte_seconds": ("listener", "upstream", "way"),
    "endings_total": ("listener", "upstream", "ended_by", "during", "reason"),
    "build_info": ("version", "python"), "admin_requests_total": ("code",), "endpoints": ("standing",),
    "endpoint_standing": ("endpoint", "standing"), "endpoint_cookie": ("endpoint",),
    "endpoint_rtt_seconds": ("endpoint",), "endpoint_healthy": ("endpoint",), "worker_up": ("worker",),
    "worker_open_sessions": ("worker",), "worker_restarts_total": ("worker",), "worker_cpu_seconds_total": ("worker",),
    "worker_resident_memory_bytes": ("worker",), "worker_open_fds": ("worker",),
    "worker_tasks": ("worker",), "warm_up_endpoints": ("outcome",),
}  # fmt: skip


def all_families() -> dict[str, list[Family]]:
    """Every metric there is, by group."""
    found = {group: list(_called(inspect.getsource(module))) for group, module in GROUPS.items()}
    counted = [
        Family(PREFIX + one.name, "counter", ("listener", "upstream"), one.meaning)
        for one in families.OF_WAYS
    ]
    found["Sessions"] = counted + found["Sessions"]
    return found


def _called(source: str) -> list[Family]:
    """The families that a module begins with words of its own."""
    found: list[Family] = []
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    for node in sorted(calls, key=lambda call: call.lineno):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="family"),
                args=[
                    ast.Constant(value=str(name)),
                    ast.Constant(value=str(kind)),
                    ast.Constant(value=str(meaning)),
                ],
                keywords=keywords,
            ):
                prefixes = [one.value.value for one in keywords if isinstance(one.value, ast.Constant)]
                prefix = str(prefixes[0]) if prefixes else PREFIX
                found.append(Family(prefix + name, kind, LABELS.get(name, ()), meaning))
            case _:
                pass
    return found


def write() -> str:
    """The whole page."""
    lines = [BEGINNING]
    for group, found in all_families().items():
        lines += [f"## {group}", "", "| name | kind | labels | meaning |", "|---|---|---|---|"]
        for family in found:
            labels = ", ".join(f"`{label}`" for label in family.labels)
            lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(write(), encoding="utf-8")
