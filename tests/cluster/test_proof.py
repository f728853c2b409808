"""What nodes sign: requests, each for one node, and the records with which they tell each other their addresses."""

from bridge.cluster.proof import Origin, Proofs
from tests.cluster.redis import SECRET

_CLIENT = Origin("192.0.2.1", 5, "https", "bridge.example")


def _proofs(node_id: str, *, secret: str = SECRET, now_ms: int = 1_000_000) -> Proofs:
    return Proofs(secret, node_id, lambda: now_ms)


def test_a_proof_is_good_at_the_node_that_it_was_made_for() -> None:
    """It tells whose request it is; whoever gets it can show it to no other node, and change nothing."""
    proof = _proofs("nodeAA").sign("GET", "/v1/calls", _CLIENT, to="nodeBB")
    assert _proofs("nodeBB").check(proof, "GET", "/v1/calls") == _CLIENT
    assert _proofs("nodeCC").check(proof, "GET", "/v1/calls") is None
    assert _proofs("nodeBB").check(proof, "POST", "/v1/calls") is None
    assert _proofs("nodeBB").check(proof, "GET", "/v1/nodes") is None
    assert _proofs("nodeBB").check(proof.replace("192.0.2.1", "192.0.2.9"), "GET", "/v1/calls") is None
    assert _proofs("nodeBB", secret="another").check(proof, "GET", "/v1/calls") is None
    assert _proofs("nodeBB", now_ms=1_060_001).check(proof, "GET", "/v1/calls") is None
    for nonsense in ("", "a|b", "|||||||", "é" * 9, "1|1|http|x|0|y|"):
        assert _proofs("nodeBB").check(nonsense, "GET", "/v1/calls") is None


def test_a_record_is_good_for_the_node_that_signed_it() -> None:
    """Under another node's name, changed, of another secret, or old, it is none. No proof of a request is one."""
    signed = _proofs("nodeAA").sign_record('{"url":"http://10.0.0.5 8080"}')
    assert _proofs("nodeBB").check_record("nodeAA", signed) == '{"url":"http://10.0.0.5 8080"}'
    assert _proofs("nodeBB").check_record("nodeCC", signed) is None
    assert _proofs("nodeBB").check_record("nodeAA", signed.replace("10.0.0.5", "10.6.6.6")) is None
    assert _proofs("nodeBB", secret="another").check_record("nodeAA", signed) is None
    assert _proofs("nodeBB", now_ms=1_060_001).check_record("nodeAA", signed) is None
    for nonsense in ("", " ", "a b", "é é {}", '{"url":"http://10.6.6.6"}'):
        assert _proofs("nodeBB").check_record("nodeAA", nonsense) is None
