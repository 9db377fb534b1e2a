import json
import unittest

from alert import alert

SETTINGS = {"routing_key": "R1", "severities": {"1": "critical"}}


def run(action, data, settings=SETTINGS):
    """The request body, and the warnings."""
    warnings = []
    event = {"id": "evt_1", "type": "incident.created", "timestamp": "2026-11-23T12:00:00.000Z", "data": data}
    request = alert(action, "acme", 1795435200000, json.dumps(event).encode(), json.dumps(settings), warnings.append)
    return request, warnings


class AlertTest(unittest.TestCase):
    def test_a_new_incident_triggers_an_alert(self):
        incident = {"incident": "inc_1", "title": "Checkout is down", "severity": 1}
        self.assertEqual(
            run("trigger", incident),
            (
                {
                    "routing_key": "R1",
                    "event_action": "trigger",
                    "dedup_key": "inc_1",
                    "payload": {
                        "summary": "Checkout is down",
                        "source": "acme",
                        "severity": "critical",
                        "timestamp": "2026-11-23T12:00:00+00:00",
                        "custom_details": incident,
                    },
                },
                [],
            ),
        )

    def test_later_steps_find_the_alert_by_the_incident(self):
        self.assertEqual(
            run("resolve", {"incident": "inc_1"}),
            ({"routing_key": "R1", "event_action": "resolve", "dedup_key": "inc_1"}, []),
        )

    def test_an_unknown_severity_is_an_error_and_a_warning(self):
        for severity, settings in [(9, SETTINGS), (1, {"routing_key": "R1", "severities": {"1": "loud"}})]:
            request, warnings = run("trigger", {"incident": "inc_1", "severity": severity}, settings)
            self.assertEqual(request["payload"]["severity"], "error")
            self.assertEqual(warnings, [f"no PagerDuty severity for {severity} in the settings: sent as error"])

    def test_what_is_missing_is_named(self):
        with self.assertRaisesRegex(ValueError, 'the settings need a "routing_key"'):
            run("trigger", {"incident": "inc_1"}, {})
        with self.assertRaisesRegex(ValueError, "the event names no incident"):
            run("trigger", {"title": "Checkout is down"})


if __name__ == "__main__":
    unittest.main()
