"""Says what a body means to Python's json, or with an argument, what targets or a URI mean to its urllib.

What is asked, and the answers, are preceded by their length, as four bytes.
"""

import json
import struct
import sys
from urllib.parse import unquote, urlsplit


def canonical(value):
    if value is None:
        return "-"
    if value is True:
        return "t"
    if value is False:
        return "f"
    if isinstance(value, str):
        return '"' + value.encode("utf-8", "surrogatepass").hex() + '"'
    if isinstance(value, (int, float)):
        return "n" + struct.pack(">d", float(value) or 0.0).hex()  # -0 is 0
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    pairs = sorted((canonical(key), canonical(item)) for key, item in value.items())
    return "{" + ",".join(key + ":" + item for key, item in pairs) + "}"


def get(value, key):
    return value.get(key) if isinstance(value, dict) else None


def subjects(method, params):
    if method == "tools/call":
        return [["Tool", get(params, "name")]]
    if method == "prompts/get":
        return [["Prompt", get(params, "name")]]
    if method in ("resources/read", "resources/subscribe", "resources/unsubscribe"):
        return [["Resource", get(params, "uri")]]
    if method == "completion/complete":
        reference = get(params, "ref")
        if get(reference, "type") == "ref/prompt":
            return [["Prompt", get(reference, "name")]]
        return [["Resource", get(reference, "uri")]]
    if method == "subscriptions/listen":
        uris = get(get(params, "notifications"), "resourceSubscriptions")
        return [["Resource", uri] for uri in uris or []]
    return []


def meaning(body):
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return "!invalid"
    method, params = get(message, "method"), get(message, "params")
    arguments = get(params, "arguments") if method in ("tools/call", "prompts/get") else None
    parts = [method, get(message, "id"), subjects(method, params), arguments]
    return " ".join(canonical(part) for part in parts)


def targets(text):
    """The paths of request targets, as servers read them."""

    def path(target):
        try:
            return urlsplit(target).path.encode().hex()
        except ValueError:
            return "!invalid"

    return " ".join(path(target) for target in text.decode().split(" "))


def spellings(text):
    """How the URI of a resource is spelled for servers that compare it."""
    uri = text.decode()
    spelled = []
    try:
        spelled.append(unquote(uri, errors="strict"))
    except UnicodeDecodeError:
        pass
    try:
        again = urlsplit(uri).geturl()
        # It leaves out delimiters of nothing, by which no server looks for anything.
        if len(again) == len(uri):
            spelled.append(again)
    except ValueError:
        pass
    return " ".join(one.encode().hex() for one in spelled) or "!invalid"


SAY = {"targets": targets, "uris": spellings}.get(sys.argv[1], meaning)


def main():
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(4):
        answer = SAY(source.read(struct.unpack(">I", head)[0])).encode()
        target.write(struct.pack(">I", len(answer)) + answer)
        target.flush()


main()
