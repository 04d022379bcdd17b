"""A file of endpoints: a YAML or JSON list as ``endpoints`` of a cluster is, or a mapping with such a key."""

from __future__ import annotations

from proxy.config import schema
from proxy.config.compose import read_document
from proxy.config.fill import Filler, shape_of
from proxy.config.mistakes import ConfigError, Findings, Place
from proxy.config.nodes import Entry, MappingNode, SequenceNode
from proxy.config.source import read_source
from proxy.core.address import Authority, Endpoint, Target


def read_endpoints(path: str) -> tuple[tuple[Target, int], ...]:
    """The endpoints with their weights; raises `ConfigError`. Services and further files are left out."""
    findings = Findings()
    source = read_source(path)
    root = read_document(source, findings.mistakes)
    if isinstance(root, SequenceNode):
        root = MappingNode(root.place, {"endpoints": Entry(root.place, root)})
    if not isinstance(root, MappingNode):
        findings.wrong(Place(source, 1, 1), "it is no list of endpoints; write `- 192.0.2.1:443`, one a line")
        raise ConfigError(findings.mistakes)
    filled = Filler({}, findings).struct(shape_of(schema.EndpointList), root, "")
    if findings.mistakes or not isinstance(filled, schema.EndpointList):
        raise ConfigError(findings.mistakes)
    return tuple(
        (one.address.value, one.weight)
        for one in filled.endpoints
        if isinstance(one.address.value, Authority | Endpoint)
    )
