"""Incident events as PagerDuty alerts (Events API v2)."""

import json
from collections.abc import Callable
from datetime import datetime, timezone

# What a step of an incident does to its alert.
ACTIONS = {"incident.created": "trigger", "incident.acknowledged": "acknowledge", "incident.resolved": "resolve"}

# What PagerDuty accepts; it refuses an alert with anything else.
SEVERITIES = ("critical", "error", "warning", "info")


def alert(
    action: str, tenant: str, timestamp_ms: int, body: bytes, settings: str, warn: Callable[[str], None]
) -> dict:
    """The request body that triggers, acknowledges or resolves the incident's alert.

    `settings` is JSON: `routing_key`, the integration's key, and `severities`, PagerDuty's severity for each of ours;
    a severity that is missing there is sent as `error`, and `warn` is called with a message.

    Raises ValueError, with a message for the tenant, when the settings have no key or the event names no incident.
    """
    chosen = json.loads(settings)
    if not chosen.get("routing_key"):
        raise ValueError('the settings need a "routing_key"')
    incident = json.loads(body)["data"]
    if not incident.get("incident"):
        raise ValueError("the event names no incident")

    request = {"routing_key": chosen["routing_key"], "event_action": action, "dedup_key": incident["incident"]}
    if action != "trigger":
        return request

    severity = chosen.get("severities", {}).get(str(incident.get("severity")))
    if severity not in SEVERITIES:
        warn(f"no PagerDuty severity for {incident.get('severity')!r} in the settings: sent as error")
        severity = "error"
    request["payload"] = {
        "summary": incident.get("title", incident["incident"]),
        "source": tenant,
        "severity": severity,
        "timestamp": datetime.fromtimestamp(timestamp_ms / 1000, timezone.utc).isoformat(),
        "custom_details": incident,
    }
    return request
