"""Tables as Markdown and as LaTeX."""

import re
from collections.abc import Sequence

from medfpl.bench.tables import Entry, Table

_TEX = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{INFINITY}": r"$\infty$",
    "\N{EN DASH}": "--",
    "\N{DAGGER}": r"\dag{}",
    "\N{GREEK SMALL LETTER RHO}": r"$\rho$",
}


def tex(text: str) -> str:
    """Return ``text`` for LaTeX: nothing in it is a command; what plain LaTeX cannot set becomes a question mark."""
    return "".join(_TEX.get(c, c if c.isascii() and c.isprintable() else "?") for c in text)


def markdown(text: str) -> str:
    """Return ``text`` for a Markdown table: nothing in it is markup, and it is one line."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>|~&$])", r"\\\1", line)


def to_markdown(tables: Sequence[Table], title: str, notes: Sequence[str]) -> str:
    """Return a page of all tables; the best is bold and the second underlined. ``notes`` stand at its head."""
    parts = [f"# {markdown(title)}", *([_list(notes)] if notes else [])]
    for table in tables:
        head = "| " + " | ".join(map(markdown, table.head)) + " |"
        rule = "| --- |" + " ---: |" * (len(table.head) - 1)
        body = ["| " + " | ".join(map(_markdown_entry, line)) + " |" for line in table.body]
        parts += [f"## {markdown(table.title)}", "\n".join([head, rule, *body])]
        parts += [_list(table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def to_tex(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Return one LaTeX table each, for a document with the package booktabs; ``notes`` are comments at the head."""
    head = ["% Needs \\usepackage{booktabs}. The best is bold, the second underlined.", *("% " + tex(n) for n in notes)]
    return "\n".join([*head, *map(_tex_table, tables)]) + "\n"


def _tex_table(table: Table) -> str:
    caption = " ".join(tex(t) for t in (table.title + ".", *table.notes))
    lines = [
        "",
        r"\begin{table}[htbp]",
        r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}",
        f"  \\caption{{{caption}}}",
        f"  \\label{{tab:{re.sub('[^a-z0-9]+', '-', table.name.lower())}}}",
        f"  \\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        r"    \toprule",
        f"    {' & '.join(map(tex, table.head))} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(map(_tex_entry, line))} \\\\" for line in table.body),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _tex_entry(entry: Entry) -> str:
    text = tex(entry.text)
    return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}"}.get(entry.mark, text)


def _markdown_entry(entry: Entry) -> str:
    text = markdown(entry.text)
    return {"best": f"**{text}**", "second": f"<ins>{text}</ins>"}.get(entry.mark, text)


def _list(notes: Sequence[str]) -> str:
    return "\n".join(f"- {markdown(note)}" for note in notes)
