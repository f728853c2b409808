"""A certificate for daemons that tests serve over TLS."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["write_certificate", "write_signed_certificate"]


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """The paths of a self-signed certificate for loopback, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("localhost")
    builder = _builder(name, name, key).add_extension(_names("127.0.0.1", "::1"), critical=False)
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    paths = folder / "certificate.crt", folder / "certificate.key"
    _write(paths[0], certificate.sign(key, hashes.SHA256()))
    _write_key(paths[1], key)
    return paths


def write_signed_certificate(folder: Path, host: str) -> tuple[Path, Path, Path]:
    """The paths of an authority's certificate, of the one that it has signed for ``host``, and of that one's key.

    Firefox takes no authority's certificate from a server, which a self-signed one is.
    """
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    of_authority = _name("Authority of the tests")
    authority = _builder(of_authority, of_authority, authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    signed = (
        _builder(_name(host), of_authority, key)
        .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    paths = folder / "authority.crt", folder / "signed.crt", folder / "signed.key"
    _write(paths[0], authority.sign(authority_key, hashes.SHA256()))
    _write(paths[1], signed.sign(authority_key, hashes.SHA256()))
    _write_key(paths[2], key)
    return paths


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _names(*addresses: str) -> x509.SubjectAlternativeName:
    ips = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    return x509.SubjectAlternativeName([x509.DNSName("localhost"), *ips])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """Good from an hour ago until tomorrow."""
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    kept = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(kept)
