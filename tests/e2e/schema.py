# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
"""Requests made from the published description, valid and nearly so, against a living daemon.

Every operation of the native API gets parameters and bodies by its schema, some of them bent: a member
missing, of another type, beyond its bound, unknown, said twice, deep, not UTF-8, cut off. The dialects get
bodies like those of their documents, bent in the same ways. What must hold: no answer 5xx but those that
the description names, every answer is as described, and no body is taken that the schema refuses. The same
seed gives the same requests.
"""
import collections
import copy
import http.client
import json
import random

import jsonschema

import described
import harness

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
SITE = "67970e46-4e12-11e6-9188-0242ac110007"
ORG = "a9346fba-f920-e99a-cc51-2e8dcc57fa3c"
SECTIONS = {
    "account default": {"id": ACCOUNT, "site_id": SITE, "org_id": ORG, "colo": "ord02"},
    "cloudflare": {"enabled": "yes"},
    "nsx": {"enabled": "yes", "points": "vmnic0=tap0"},
    "citrix": {"enabled": "yes", "interfaces": "MGMT=tap0"},
    "mist": {"enabled": "yes", "devices": "5c5b35000010=tap0"},
}
# Streams end when their reader goes, or never: other tests have them.
LEFT_OUT = ("/live", "/stream")
RUNNING_MAX = 12
ABSENT = "00000000-0000-4000-8000-000000000000"
NAMES = ["a", "x y", "naïve", "café 7"]
TEXTS = ["", "a", "x y", "tcp", "é€😀", "../../etc", "a/b", "%00", "\u0001", "\u202e", "null", "-1", "'\"<>&", "x" * 300]
FILTERS = ["", "tcp", "udp port 53", "host 10.0.0.1", "tcp prot 80", "ip[0] & 0xf != 5", "host example.net", "inbound"]
NUMBERS = [0, 1, 2, 63, 64, 255, 65535, 65536, 262144, 262145, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -1]
OTHER_TYPES = [None, True, False, 0, -1, 1.5, 1e300, "", "1", [], {}, [1], {"a": 1}, [[[]]]]

CLOUDFLARE = {"type": "simple", "system": "magic-transit", "time_limit": 1, "packet_limit": 10}
FULL = {"type": "full", "colo_name": "ord02", "destination_conf": "s3://pcaps/sub?region=us-east-1"}
FILTER_V1 = {"destination_address": "10.0.0.1", "destination_port": 80, "protocol": 6, "source_address": "10.0.0.2", "source_port": 20}
NSX = {"cappoint": "VMNIC", "capvalue": "vmnic0", "capsource": "UI", "capamount": 10, "capduration": 1, "options": {"ip": "10.0.0.1", "port": 80}}
CITRIX = {"packet_capture": {"interface": "MGMT", "duration": 5, "max_packets": 1000, "filter_str": ""}}
MIST = {"type": "wired", "num_packets": 10, "duration": 60, "max_pkt_len": 128, "format": "pcap"}
PCAPS = f"/client/v4/accounts/{ACCOUNT}/pcaps"
MIST_SITE, MIST_ORG = f"/api/v1/sites/{SITE}/pcaps", f"/api/v1/orgs/{ORG}/pcaps"
# Who authenticates how, method, path, body ({id}: of one of the captures).
DIALECTS = [
    ("bearer", "POST", PCAPS, CLOUDFLARE),
    ("bearer", "POST", PCAPS, {**CLOUDFLARE, **FULL}),
    ("bearer", "POST", PCAPS, {**CLOUDFLARE, "filter_v1": FILTER_V1}),
    ("bearer", "GET", PCAPS, None),
    ("bearer", "GET", PCAPS + "/{id}", None),
    ("bearer", "POST", PCAPS + "/ownership", {"destination_conf": "s3://pcaps"}),
    ("bearer", "POST", PCAPS + "/ownership/validate", {"destination_conf": "s3://pcaps", "ownership_challenge": "x.txt"}),
    ("basic", "POST", "/api/v1/pktcap/session", NSX),
    ("basic", "GET", "/api/v1/pktcap/sessions", None),
    ("basic", "GET", "/api/v1/pktcap/session/{id}", None),
    ("basic", "POST", "/api/v1/pktcap/session/{id}?action=terminate", {}),
    ("basic", "DELETE", "/api/v1/pktcap/session/{id}", None),
    ("cookie", "POST", "/sdwan/nitro/v2/diag/packet_capture", CITRIX),
    ("cookie", "DELETE", "/sdwan/nitro/v2/diag/packet_capture", None),
    ("none", "POST", "/sdwan/nitro/v1/config/login", {"login": {"username": "admin", "password": "x"}}),
    ("cookie", "GET", "/sdwan/nitro/v2/diag/packet_capture", None),
    ("cookie", "PUT", "/sdwan/nitro/v2/diag/packet_capture", CITRIX),
    ("token", "POST", MIST_SITE + "/capture", MIST),
    ("token", "POST", MIST_ORG + "/capture", {**MIST, "type": "mxedge", "mxedges": {}, "format": "stream"}),
    ("token", "GET", MIST_SITE, None),
    ("token", "GET", MIST_SITE + "/capture", None),
    ("token", "PUT", MIST_SITE + "/{id}", {"notes": "x"}),
    ("token", "DELETE", MIST_SITE + "/capture", None),
]


class Broken(AssertionError):
    """A request whose answer breaks a law; the text has what repeats it."""


class Maker:
    """Values by their schemas, and bent ones."""

    def __init__(self, rng, token):
        self.rng, self.ids, self.names = rng, [], []
        self.known = {"token": [token], "account": ["default", "*"]}

    def text(self, schema, name):
        if "enum" in schema:
            return self.rng.choice([*schema["enum"], schema["enum"][0]])
        if name == "filter":
            return self.rng.choice(FILTERS[:4] if self.rng.random() < 0.7 else FILTERS)
        if name in ("id", "replaces") or schema.get("format") == "uuid":
            return self.rng.choice([*self.ids[-3:], ABSENT])
        if schema.get("format") == "date-time":
            return self.rng.choice(["2099-01-01T00:00:00Z", "2000-01-01T00:00:00+01:00", "2099-02-30T00:00:00Z"])
        if schema.get("contentEncoding") == "base64":
            return self.rng.choice(["AgAAAAABAgAAAAACCAY=", "AgAAAAABAgAAAAACCABF", "", "=", "AA"])
        if name in self.known and self.rng.random() < 0.6:
            return self.rng.choice(self.known[name])
        if name == "name" and self.names and self.rng.random() < 0.3:
            return self.rng.choice(self.names)
        text = self.rng.choice(NAMES if self.rng.random() < 0.7 else TEXTS)[: schema.get("maxLength", 300)]
        return text if len(text) >= schema.get("minLength", 0) else "t"

    def value(self, schema, name=""):
        schema, rng = described._resolved(schema), self.rng
        kind = schema.get("type", "string")
        if kind == "object":
            members = schema.get("properties", {})
            wanted = set(schema.get("required", ())) | {m for m in members if rng.random() < 0.25}
            return {m: self.value(members[m], m) for m in members if m in wanted}
        if kind == "array":
            n = schema.get("minItems", 0) + rng.choice([0, 0, 0, 1, 2])
            return [self.value(schema["items"], name[:-1]) for _ in range(n)]
        if kind == "boolean":
            return rng.random() < 0.5
        if kind in ("integer", "number"):
            least, most = schema.get("minimum", 0), schema.get("maximum", 2**53)
            number = rng.choice([n for n in NUMBERS if least <= n <= most])
            return number + 0.5 if kind == "number" and number < most and rng.random() < 0.3 else number
        if name == "port":
            return rng.choice(["tap0"] * 5 + ["nowhere"])
        return self.text(schema, name)

    def bend(self, value):
        """The value with something wrong with it, perhaps; as a new one."""
        value, rng = copy.deepcopy(value), self.rng
        places = []

        def walk(at):
            if isinstance(at, (dict, list)):
                for key in at if isinstance(at, dict) else range(len(at)):
                    places.append((at, key))
                    walk(at[key])

        walk(value)
        if not places or rng.random() < 0.1:
            return rng.choice(OTHER_TYPES)
        holder, key = rng.choice(places)
        what = rng.randrange(6)
        if what == 0 and isinstance(holder, dict):
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[rng.choice(["unknown", "", "Name", "é", "__proto__"])] = rng.choice(OTHER_TYPES)
        elif what == 2:
            holder[key] = rng.choice(NUMBERS)
        elif what == 3:
            holder[key] = rng.choice(TEXTS) * rng.choice([1, 1, 30])
        else:
            holder[key] = rng.choice(OTHER_TYPES)
        return value

    def bytes(self, value):
        """As JSON; one in ten is not quite that."""
        text, rng = json.dumps(value, ensure_ascii=rng_half(self.rng)).encode("utf-8", "surrogatepass"), self.rng
        if rng.random() < 0.9:
            return text
        what = rng.randrange(6)
        if what == 0:
            return text[: rng.randrange(len(text) + 1)]
        if what == 1:
            at = rng.randrange(len(text) + 1)
            return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
        if what == 2 and text.startswith(b'{"'):
            return text[:-1] + b"," + text[1 : text.index(b":")] + b":1}"
        if what == 3:
            return b"[" * 40 + text + b"]" * 40
        return text + rng.choice([b"", b" ", b"x", b"\0", b"{}", b"\xff"])


def rng_half(rng):
    return rng.random() < 0.5


class Driver:
    def __init__(self, daemon, seed):
        self.daemon, self.seed, self.rng = daemon, seed, random.Random(seed)
        self.make = Maker(self.rng, daemon.api.token)
        self.connection = None
        self.made = 0
        self.counts = collections.Counter()
        self.seen = collections.Counter()  # (method, template, first digit of the status)
        secret = daemon.api.token
        self.credentials = {
            "bearer": {"Authorization": f"Bearer {secret}"},
            "token": {"Authorization": f"Token {secret}"},
            "basic": {"Authorization": harness.basic("admin", secret)},
            "none": {},
        }
        login = {"login": {"username": "admin", "password": secret}}
        answer = daemon.api.request("POST", "/sdwan/nitro/v1/config/login", login)
        self.credentials["cookie"] = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}
        self.operations = [
            (method, template, operation, item.get("parameters", []))
            for template, item in described.DOCUMENT["paths"].items()
            for method, operation in item.items()
            if method != "parameters" and not template.endswith(LEFT_OUT)
            for _ in range(4 if "requestBody" in operation else 1)
        ]

    def ask(self, method, path, body, headers):
        """One request, on a connection that is kept while the daemon keeps it."""
        for last in (False, True):
            fresh = self.connection is None
            if fresh:
                self.connection = self.daemon.api.connection(20 * harness.SLOW)
            try:
                self.connection.request(method, path, body, headers)
                answer = self.connection.getresponse()
                answer = harness.Answer(answer.status, answer.headers, answer.read())
                if answer.headers.get("Connection", "") == "close":
                    self.close()
                return answer
            except (http.client.HTTPException, OSError) as error:
                self.close()
                if fresh or last:
                    raise Broken(f"{self.about(method, path, body)}: no answer: {error!r}") from None
        raise AssertionError("not reached")

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def about(self, method, path, body):
        return f"seed {self.seed}, request {self.made}: {method} {path} {body!r}"

    def path(self, template, parameters):
        """With its parameters in place; also wrong ones."""
        path, query = template, []
        for parameter in parameters:
            name, schema = parameter["name"], parameter["schema"]
            value = self.make.value(schema, name)
            if self.rng.random() < 0.15:
                value = self.rng.choice([*TEXTS[1:], *NUMBERS])
            value = http_quote(str(value))
            if parameter["in"] == "path":
                path = path.replace("{%s}" % name, value or "x")
            elif self.rng.random() < 0.5:
                query.append(f"{name}={value}")
        if self.rng.random() < 0.03:
            query.append(self.rng.choice(["x=1", "limit", "limit=1&limit=2", "%zz=1"]))
        return path + ("?" + "&".join(query) if query else "")

    def body(self, operation):
        """Of the operation, as bytes, and whether its schema takes it; None, None: it has none."""
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            return None, None
        value = self.make.value(content["schema"])
        if self.rng.random() < 0.5:
            value = self.make.bend(value)
        body = self.make.bytes(value)
        if body.strip() == b"" and not operation["requestBody"].get("required"):
            return body, True
        return body, body_fits(body, content["schema"])

    def native(self):
        method, template, operation, parameters = self.rng.choice(self.operations)
        parameters = [*parameters, *operation.get("parameters", [])]
        path = self.path(template, parameters)
        body, fits = self.body(operation)
        if method == "delete" and "/tokens/" in path and not any(path.endswith("/" + n) for n in self.make.names):
            path = "/api/v1/tokens/nobody"  # never our own
        headers = dict(self.credentials["bearer"])
        if body is not None:
            headers["Content-Type"] = "application/json"
        answer = self.ask(method.upper(), path, body, headers)
        about = self.about(method.upper(), path, body)
        try:
            described.check(method, path, answer)
        except described.Undescribed as error:
            raise Broken(f"{about}: {error}") from None
        if answer.status >= 500 and str(answer.status) not in operation["responses"]:
            raise Broken(f"{about}: {answer!r}")
        if fits is False and answer.status < 300:
            raise Broken(f"{about}: taken, and its schema refuses it: {answer!r}")
        self.seen[method, template, answer.status // 100] += 1
        self.counts[f"native {answer.status // 100}xx"] += 1
        self.counts["fits" if fits else "does not fit"] += fits is not None
        self.learn(template, method, answer)

    def learn(self, template, method, answer):
        if method == "post" and answer.status == 201 and template.endswith("/captures"):
            self.make.ids.append(answer.json()["id"])
        if method == "post" and answer.status == 201 and template.endswith("/tokens"):
            name = answer.json()["name"]
            if name.isascii() and name.isalnum():
                self.make.names.append(name)

    def dialect(self):
        who, method, template, body = self.rng.choice(DIALECTS)
        path = template.replace("{id}", self.rng.choice([*self.make.ids[-3:], ABSENT, "x"]))
        headers = dict(self.credentials[who])
        if body is not None:
            wanted = body
            if self.rng.random() < 0.7:
                body = self.make.bend(body)
            if method == "POST" and template.endswith("/packet_capture") and not soon_over(body):
                body = wanted  # it is answered when the capture is over
            body = self.make.bytes(body)
            headers["Content-Type"] = "application/json"
        answer = self.ask(method, path, body, headers)
        about = self.about(method, path, body)
        if answer.status >= 500:
            raise Broken(f"{about}: {answer!r}")
        if "json" in (answer.headers.get("Content-Type") or "") and answer.body:
            try:
                made = answer.json()
            except ValueError as error:
                raise Broken(f"{about}: {error}: {answer!r}") from None
            found = made.get("result") if isinstance(made, dict) and method == "POST" else None
            found = found if isinstance(found, dict) else made
            if isinstance(found, dict) and isinstance(found.get("id"), str) and method == "POST":
                self.make.ids.append(found["id"])
        self.seen[method, template, answer.status // 100] += 1
        self.counts[f"dialects {answer.status // 100}xx"] += 1

    def tidy(self):
        """No more captures than a few, no more tokens than are needed."""
        api = self.daemon.api
        for capture in api.captures("?limit=1000")["captures"][RUNNING_MAX:]:
            api.request("DELETE", f"/api/v1/captures/{capture['id']}")
        if len(self.make.names) > 10:
            api.request("DELETE", f"/api/v1/tokens/{self.make.names.pop(0)}")

    def run(self, count):
        for _ in range(count):
            self.made += 1
            (self.dialect if self.rng.random() < 0.35 else self.native)()
            if self.made % 50 == 0:
                self.tidy()
        self.close()

    def settle(self, readers=3):
        """Every capture closed, its books balanced; some read by others; then the port's."""
        api = self.daemon.api
        for capture in api.captures("?limit=1000")["captures"]:
            if capture["state"] in ("starting", "running"):
                api.request("POST", f"/api/v1/captures/{capture['id']}/stop")
        for i, capture in enumerate(api.captures("?limit=1000")["captures"]):
            capture = api.wait_closed(capture["id"])
            if capture["output"]["type"] == "file" and capture["state"] == "complete":
                self.daemon.settled(capture["id"], readers=i < readers)
        self.daemon.sluice("balance")


def soon_over(body):
    """Whether a Citrix capture of it ends with its first packets, if it is one."""
    asked = body.get("packet_capture") if isinstance(body, dict) else None
    return not isinstance(asked, dict) or (asked.get("max_packets"), asked.get("filter_str", "")) == (1000, "")


def http_quote(text):
    return "".join(c if c.isascii() and c.isalnum() else "".join(f"%{b:02x}" for b in c.encode()) for c in text)


def body_fits(body, schema):
    """Whether the schema takes these bytes; None where this cannot tell."""
    try:
        text = body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_constant)
    except (ValueError, RecursionError):
        return False
    return not list(jsonschema.Draft202012Validator({**described.DOCUMENT, **described._resolved(schema)}).iter_errors(value))


def _constant(word):
    raise ValueError(word)


def _once(pairs):
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise ValueError("a member twice")
    return dict(pairs)
