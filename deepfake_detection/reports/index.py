"""The page over a folder of reports: one table, sorted by a click or a key, without network. One file; the script in it
is the only one that its Content-Security-Policy lets run."""

from __future__ import annotations

from collections.abc import Sequence

from .html import TEMPLATES, environment, source_of

#: Most worrying first: what a person should look at.
ORDER = ("FAKE", "UNSURE", "ERROR", "NO FACE", "REAL")


def page(rows: Sequence[dict]) -> str:
    """The page.

    Args:
        rows: "video" (file name), "verdict" (one of ORDER), "p_fake" (or None), "people" (number or None), "duration_s"
            (or None), "made" (RFC 3339 or None), "reason" (text), "report" (file name in the same folder, or None).

    Returns:
        HTML text, rows by verdict, then by fake probability, then by name.
    """
    from markupsafe import Markup

    css = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "index.css"))
    script = (TEMPLATES / "index.js").read_text(encoding="utf-8")
    sources = f"style-src {source_of(css)}; script-src {source_of(script)}"
    policy = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
    rank = {word: i for i, word in enumerate(ORDER)}
    ordered = sorted(
        rows, key=lambda r: (rank.get(r["verdict"], len(rank)), -(r["p_fake"] or 0), r["video"], r["report"] or "")
    )
    counts = [(word, n) for word in ORDER if (n := sum(r["verdict"] == word for r in rows))]
    return (
        environment()
        .get_template("index.html")
        .render(rows=ordered, counts=counts, rank=rank, css=Markup(css), script=Markup(script), policy=policy)
    )
