import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.handler import Event, Header, Request, Verdict, Verdict_Deliver, Verdict_Drop
from wit_world.imports.log import Level, log

from alert import ACTIONS, alert


class Handler(exports.Handler):
    def handle(self, event: Event, settings: str) -> Verdict:
        action = ACTIONS.get(event.type)
        if action is None:
            return Verdict_Drop(f"{event.type} is no step of an incident")
        try:
            request = alert(
                action, event.tenant, event.timestamp_ms, event.body, settings, lambda message: log(Level.WARN, message)
            )
        except ValueError as error:
            raise Err(str(error))
        return Verdict_Deliver(Request(json.dumps(request).encode(), [Header("content-type", "application/json")]))
