"""The OpenAPI document (OpenAPI 3.1.0) of what the API serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

JSON = Any
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_NUMBER = {"type": "integer"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXTS = {"type": "array", "items": _TEXT}
_ANYTHING: JSON = {"type": "object"}


def _object(required: Mapping[str, JSON], optional: Mapping[str, JSON] | None = None) -> JSON:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list(items: JSON) -> JSON:
    return {"type": "array", "items": items}


def _map(values: JSON) -> JSON:
    return {"type": "object", "additionalProperties": values}


def _named(schema: JSON) -> JSON:
    """The schema of an item of a list, which has its name in it."""
    return _object({**schema["properties"], "name": _TEXT}, {}) | {"required": [*schema["required"], "name"]}


_SECONDS = {"type": "number", "minimum": 0}
_LATENCY = _object({"p50": _SECONDS, "p95": _SECONDS, "p99": _SECONDS})
_TRAFFIC = _object(
    {
        "requests": _COUNT,
        "errors": _COUNT,
        "p50": _SECONDS,
        "p95": _SECONDS,
        "p99": _SECONDS,
        "inFlight": _COUNT,
        "counts": _list(_COUNT),
    }
)
_STATUS = {"enum": ["enabled", "warning", "disabled"]}
_ROUTER = _object(
    {
        "entryPoints": _TEXTS,
        "service": _TEXT,
        "rule": _TEXT,
        "priority": _NUMBER,
        "status": _STATUS,
        "using": _TEXTS,
        "provider": _TEXT,
    },
    {"ruleSyntax": _TEXT, "middlewares": _TEXTS, "tls": _ANYTHING, "observability": _ANYTHING, "error": _TEXTS},
)
_CHILDREN = _list(_object({"name": _TEXT, "weight": _NUMBER}))
_SERVICE = _object(
    {"type": _TEXT, "status": _STATUS, "usedBy": _TEXTS, "provider": _TEXT},
    {
        "loadBalancer": _object({"servers": _list(_object({"url": _TEXT, "weight": _NUMBER}))}),
        "weighted": _object({"services": _CHILDREN}, {"sticky": _ANYTHING}),
        "highestRandomWeight": _object({"services": _CHILDREN}),
        "failover": _object({"service": _TEXT, "fallback": _TEXT}, {"errors": _ANYTHING}),
        "mirroring": _object(
            {
                "service": _TEXT,
                "mirrors": _list(_object({"name": _TEXT, "percent": _NUMBER})),
                "mirrorBody": _FLAG,
                "maxBodySize": _NUMBER,
            }
        ),
        "serverStatus": _map({"enum": ["UP", "DOWN"]}),
        "requests": _COUNT,
        "errors": _COUNT,
        "latency": _LATENCY,
        "error": _TEXTS,
    },
)
_MIDDLEWARE = _object({"type": _TEXT, "status": _STATUS, "usedBy": _TEXTS, "provider": _TEXT}, {"error": _TEXTS})
_CERTIFICATE = _object(
    {
        "names": _TEXTS,
        "issuer": _TEXT,
        "notBefore": {"type": "number"},
        "notAfter": {"type": "number"},
        "kind": {"enum": ["EC", "RSA", "Ed25519"]},
        "origin": _TEXT,
        "isDefault": _FLAG,
        "status": _STATUS,
    },
    {"error": _TEXTS},
)
_ENTRY_POINT = _object({"name": _TEXT, "address": _TEXT})
_COUNTS = _object({"total": _COUNT, "warnings": _COUNT, "errors": _COUNT})
_OVERVIEW = _object(
    {
        "http": _object({"routers": _COUNTS, "services": _COUNTS, "middlewares": _COUNTS}),
        "tcp": _object({"routers": _COUNTS, "services": _COUNTS, "middlewares": _COUNTS}),
        "udp": _object({"routers": _COUNTS, "services": _COUNTS}),
        "features": _object(
            {"tracing": _TEXT, "metrics": _TEXT, "accessLog": _FLAG, "operations": _FLAG, "logs": _FLAG}
        ),
        "providers": _TEXTS,
    }
)


def _or_null(schema: JSON) -> JSON:
    return {"oneOf": [schema, {"type": "null"}]}


_NUMBER_OR_NULL = {"type": ["number", "null"], "minimum": 0}
_RECEIVED_AND_SENT = _object({"received": _COUNT, "sent": _COUNT})
_READ_AND_WRITTEN = _object({"read": _COUNT, "written": _COUNT})
#: Of a node whose agent has told nothing yet all but the error is null.
_NODE_USAGE = _object(
    {
        "at": _NUMBER_OR_NULL,
        "cpus": {"type": ["integer", "null"], "minimum": 0},
        "cpu": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "load": _or_null({**_list(_SECONDS), "minItems": 3, "maxItems": 3}),
        "memory": _or_null(_object({"total": _COUNT, "used": _COUNT})),
        "network": _or_null(_RECEIVED_AND_SENT),
        "disk": _or_null(_object({"total": _COUNT, "used": _COUNT, "read": _COUNT, "written": _COUNT})),
        "error": {"type": ["string", "null"]},
    }
)
_USAGE = _object(
    {
        "cpu": _SECONDS,
        "memory": _COUNT,
        "memoryLimit": {"type": ["integer", "null"], "minimum": 0},
        "network": _RECEIVED_AND_SENT,
        "disk": _READ_AND_WRITTEN,
    }
)
_TASK = _object(
    {
        "id": _TEXT,
        "slot": _COUNT,
        "node": _TEXT,
        "state": _TEXT,
        "error": _TEXT,
        "exitCode": {"type": ["integer", "null"]},
        "networks": _map(_TEXT),
        "url": _TEXT,
        "reason": _TEXT,
        "inFlight": _COUNT,
        "outdated": {"type": "boolean"},
        "usage": _or_null(_USAGE),
    },
    {"requests": _COUNT, "errors": _COUNT, "latency": _LATENCY},
)
_NODE = _object(
    {
        "id": _TEXT,
        "hostname": _TEXT,
        "availability": _TEXT,
        "state": _TEXT,
        "role": {"enum": ["manager", "worker"]},
        "leader": _FLAG,
        "usage": _or_null(_NODE_USAGE),
    }
)
_UPDATE: JSON = {
    **_object({"state": _TEXT, "message": _TEXT, "started": _SECONDS, "completed": _SECONDS}),
    "type": ["object", "null"],
}
_SWARM = _object(
    {
        "nodes": _list(_NODE),
        "services": _list(
            _object(
                {
                    "id": _TEXT,
                    "name": _TEXT,
                    "image": _TEXT,
                    "replicas": {"type": ["integer", "null"]},
                    "networks": _TEXTS,
                    "problems": _TEXTS,
                    "usage": _or_null(_USAGE),
                    "update": _UPDATE,
                    "tasks": _list(_TASK),
                }
            )
        ),
        "silent": _TEXTS,
    }
)
_SERVER = _object({"url": _TEXT, "task": _TEXT, "node": _TEXT, "reason": _TEXT})
_WHY = {
    "oneOf": [
        _object(
            {
                "answers": _list(
                    _object(
                        {
                            "entry_point": _TEXT,
                            "router": _TEXT,
                            "rule": _TEXT,
                            "priority": _NUMBER,
                            "problem": _TEXT,
                            "middlewares": _TEXTS,
                            "service": _TEXT,
                            "servers": _list(_SERVER),
                            "close": _list(_ANYTHING),
                            "refused": _TEXT,
                            "made_of": _TEXT,
                            "is_own": _FLAG,
                            "is_routed": _FLAG,
                            "sentences": _TEXTS,
                        }
                    )
                ),
                "disabled": _list(_object({"name": _TEXT, "reasons": _TEXTS, "rule": _TEXT, "sentence": _TEXT})),
            }
        ),
        _object(
            {"service": _TEXT, "findings": _list(_object({"service": _TEXT, "sentence": _TEXT, "is_hint": _FLAG}))}
        ),
    ]
}
_MESSAGE = _object({"message": _TEXT})
_LOGS = _object(
    {
        "lines": _list(_object({"time": _TEXT, "task": _TEXT, "node": _TEXT, "stream": _TEXT, "text": _TEXT})),
        "complete": _FLAG,
    }
)

#: What is given as a whole: summary and schema by path.
DOCUMENTS: dict[str, tuple[str, JSON]] = {
    "/api/overview": ("How much there is, and how much of it has problems", _OVERVIEW),
    "/api/version": ("Which program answers", _object({"Version": _TEXT, "Codename": _TEXT})),
    "/api/rawdata": (
        "Routers, services and middlewares at once, by name",
        _object({"routers": _map(_ROUTER), "services": _map(_SERVICE), "middlewares": _map(_MIDDLEWARE)}),
    ),
    "/api/swarm": ("Nodes, services and their tasks; empty without a Swarm", _SWARM),
    "/api/traffic": (
        "Requests since the gate has started, and how long they took in seconds",
        _object(
            {
                "at": _SECONDS,
                "since": _SECONDS,
                "seconds": _SECONDS,
                "bounds": _list(_SECONDS),
                "entryPoints": _map(_TRAFFIC),
                "services": _map(_TRAFFIC),
                "servers": _map(_map(_TRAFFIC)),
                "others": _COUNT,
                "replicas": {"type": "integer", "minimum": 1},
                "silent": _TEXTS,
            }
        ),
    ),
    "/api/replicas": (
        "The replicas of the gate; none outside of a Swarm",
        _object(
            {
                "replicas": _list(
                    _object(
                        {
                            "task": _TEXT,
                            "node": _TEXT,
                            "address": _TEXT,
                            "self": _FLAG,
                            "answered": _FLAG,
                            "at": _NUMBER_OR_NULL,
                            "error": {"type": ["string", "null"]},
                        }
                    )
                )
            }
        ),
    ),
    "/api/prometheus/targets": (
        "Tasks of services with the label prometheus.port, for Prometheus' HTTP service discovery",
        _list(_object({"targets": _TEXTS, "labels": _map(_TEXT)})),
    ),
    "/api/openapi.json": ("This document", _object({"openapi": _TEXT, "info": _ANYTHING, "paths": _ANYTHING})),
}
#: What is given in pages, and item by item: what it is called and an item's schema by path.
LISTS: dict[str, tuple[str, JSON]] = {
    "/api/entrypoints": ("entry points", _ENTRY_POINT),
    "/api/http/routers": ("HTTP routers", _named(_ROUTER)),
    "/api/http/services": ("HTTP services", _named(_SERVICE)),
    "/api/http/middlewares": ("HTTP middlewares", _named(_MIDDLEWARE)),
    "/api/certificates": ("certificates that TLS clients may get", _named(_CERTIFICATE)),
}


def _answers(schema: JSON, others: Mapping[str, str], kind: str = "application/json", **more: JSON) -> JSON:
    """The responses of an operation: 200 with a schema, and others, each with a message."""
    told = {"200": {"description": "OK", "content": {kind: {"schema": schema}}, **more}}
    for status, description in others.items():
        told[status] = {"description": description, "content": {"application/json": {"schema": _MESSAGE}}}
    return told


def _query(name: str, description: str, schema: JSON = _TEXT) -> JSON:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
_PAGES: Sequence[JSON] = (
    _query("search", "What has to occur in the name, rule, service, type or address; case does not count"),
    _query("status", "Only items of this status", {"type": "string"}),
    _query("sortBy", "A key of the items; unknown ones sort by name"),
    _query("direction", "asc or desc", {"type": "string"}),
    _query("page", "From 1", {"type": "integer", "minimum": 1}),
    _query("per_page", "Items of a page, 100 unless it is given", {"type": "integer", "minimum": 1}),
)
_REPLICA = _query("replica", "self: of this replica alone", {"enum": ["self"]})
#: What is of the whole gate, unless one asks for this replica alone.
_OF_ALL = ("/api/traffic", "/api/swarm", "/api/rawdata", "/api/http/services")
_SILENT = {
    "X-Silent-Replicas": {"description": "Names of the replicas that did not answer, if there are any", "schema": _TEXT}
}
_NOT_TAKEN = "the entry point does not take such a path, as one with an escaped slash"
_NEXT_PAGE = {"X-Next-Page": {"description": "Number of the next page, 1 if there is none", "schema": _NUMBER}}
_UNCLEAR = "the query can't be understood"
_OPERATION = _object(
    {"operation": {"enum": ["scale", "restart", "rollback", "drain", "activate"]}},
    {"service": _TEXT, "node": _TEXT, "replicas": _COUNT},
)


def openapi() -> JSON:
    """The OpenAPI document of what is served. Methods that are not in it are answered 405."""
    paths: dict[str, JSON] = {}
    for path, (summary, schema) in DOCUMENTS.items():
        paths[path] = {"get": {"summary": summary, "responses": _answers(schema, {})}}
        if path in _OF_ALL:
            paths[path]["get"] |= {"parameters": [_REPLICA], "responses": _answers(schema, {"400": _UNCLEAR})}
    for path, (what, schema) in LISTS.items():
        of_all = path in _OF_ALL
        parameters = [*_PAGES, *([_REPLICA] if of_all else [])]
        pages = _answers(_list(schema), {"400": _UNCLEAR}, headers=_NEXT_PAGE | (_SILENT if of_all else {}))
        paths[path] = {"get": {"summary": f"The {what}, in pages", "parameters": parameters, "responses": pages}}
        one = _answers(schema, {"400": _NOT_TAKEN, "404": "there is none of this name"})
        # The entry point says it in a text.
        one["400"] = {"description": _NOT_TAKEN}
        paths[f"{path}/{{name}}"] = {
            "get": {"summary": f"One of the {what}, by its qualified name", "parameters": [_NAME], "responses": one}
        }
    paths["/api/why"] = {
        "get": {
            "summary": "What becomes of a request, or why a service is not routed",
            "parameters": [
                _query("url", "Of the request, as https://shop.example/path"),
                _query("method", "Of the request, GET unless it is given"),
                _query("header", "Its fields, as Name: value", _TEXTS),
                _query("client", "The address that it would come from"),
                _query("service", "Name of a Swarm service, to ask about that instead"),
            ],
            "responses": _answers(_WHY, {"400": _UNCLEAR}),
        }
    }
    paths["/api/events"] = {
        "get": {
            "summary": "Changes as they happen",
            "parameters": [
                _query("traffic", "true: traffic, too, each second"),
                _query("swarm", "true: when the Swarm has changed, too, but not what has"),
                _query("past", "true: the last 1000 changes, too, for who does not come with Last-Event-ID"),
                _REPLICA,
            ],
            "responses": _answers(_TEXT, {"400": _UNCLEAR, "503": "too many viewers"}, "text/event-stream"),
        }
    }
    paths["/api/swarm/services/{name}/logs"] = {
        "get": {
            "summary": "The last lines that a service's tasks have logged",
            "parameters": [
                _NAME,
                _query("tail", "How many lines, 1 to 1000, 200 unless it is given", {"type": "integer", "minimum": 1}),
                _query("search", "What has to occur in a line; case does not count"),
                _query("task", "Id of a task, for its lines alone"),
            ],
            "responses": _answers(
                _LOGS,
                {
                    "400": _UNCLEAR,
                    "403": "api.logs is false",
                    "404": "there is no such service or task",
                    "default": "the engine's refusal, with its status",
                },
            ),
        }
    }
    # Of paths that the entry point does not take it says so in a text.
    paths["/api/swarm/services/{name}/logs"]["get"]["responses"]["400"] = {
        "description": f"{_UNCLEAR}, or {_NOT_TAKEN}"
    }
    paths["/api/operations"] = {
        "post": {
            "summary": "Change the Swarm",
            "parameters": [
                {
                    "name": "X-Swarmgate-Operation",
                    "in": "header",
                    "required": True,
                    "description": "Any text: forms of other sites can't send it",
                    "schema": {"type": "string", "minLength": 1},
                }
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": _OPERATION}}},
            "responses": _answers(
                _object({"message": _TEXT}),
                {
                    "400": "the operation can't be understood",
                    "403": "operations are off, nobody was authenticated, or the request comes from another site",
                    "404": "there is no such service or node",
                    "413": "the body is longer than 4096 octets",
                    "415": "the body is not application/json",
                    "default": "the engine's refusal, with its status",
                },
            ),
        }
    }
    return {"openapi": "3.1.0", "info": {"title": "swarmgate", "version": "1"}, "paths": paths}
