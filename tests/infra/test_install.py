"""`make setup`: uv is told what pip is told."""

from infra.install import uv_environment

LISTED = """\
:env:.find-links='/from/environment'
global.cert='/ca.pem'
global.extra-index-url='https://one/simple\\nhttps://two/simple'
global.find-links='/wheels /more'
install.index-url='https://mirror/simple'
global.quiet='1'
"""


def test_uv_is_told_what_pip_is_told() -> None:
    told = uv_environment(LISTED, {"HOME": "/home"})
    assert told == {
        "HOME": "/home",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_FIND_LINKS": "/from/environment",
        "UV_INDEX": "https://one/simple https://two/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_what_uv_is_told_itself_wins() -> None:
    told = uv_environment(LISTED, {"UV_FIND_LINKS": "/mine", "UV_INDEX_STRATEGY": "first-index"})
    assert (told["UV_FIND_LINKS"], told["UV_INDEX_STRATEGY"]) == ("/mine", "first-index")
