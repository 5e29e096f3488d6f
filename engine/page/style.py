"""The style of a page: light, dark, small screens and paper."""

from __future__ import annotations

# Six colours that stay apart for eyes that see fewer of them (after Okabe and Ito).
_LIGHT = ("#0969a8", "#c2410c", "#0f766e", "#9333ea", "#a16207", "#64748b")
_DARK = ("#5ab0f2", "#fb923c", "#2dd4bf", "#c084fc", "#facc15", "#94a3b8")


def _variables(colours: tuple[str, ...]) -> str:
    return "".join(f"--c{index}:{colour};" for index, colour in enumerate(colours))


_SERIES = "".join(
    f".l{i}{{stroke:var(--c{i})}}.d{i},.a{i}{{fill:var(--c{i})}}.k{i}{{background:var(--c{i})}}"
    for i in range(6)
)
_AREAS = ",".join(f".a{i}" for i in range(6))

STYLE = f"""
:root{{color-scheme:light dark;--bg:#fff;--fg:#1a2129;--dim:#57606a;--rule:#d8dee4;--soft:#f4f6f8;
--good:#116329;--goodbg:#dafbe1;--bad:#a40e26;--badbg:#ffebe9;--mid:#7d4e00;--midbg:#fff4d1;
{_variables(_LIGHT)}}}
@media(prefers-color-scheme:dark){{:root{{--bg:#0f1318;--fg:#e3e8ee;--dim:#97a3b0;--rule:#2c343d;
--soft:#171d24;--good:#6fdd8b;--goodbg:#12291a;--bad:#ff938a;--badbg:#381618;--mid:#e8bd5a;
--midbg:#2e2510;{_variables(_DARK)}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--bg);color:var(--fg);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}}
main{{max-width:880px;margin:0 auto;padding:32px 16px 64px}}
h1{{font-size:1.7rem;line-height:1.25;margin:0 0 4px;letter-spacing:-.01em}}
h2{{font-size:1.15rem;margin:44px 0 10px;padding-top:14px;border-top:1px solid var(--rule)}}
h3{{font-size:1rem;margin:24px 0 8px}}
p{{margin:6px 0}}.note,.sub{{color:var(--dim)}}.note{{font-size:.9rem}}
.badge{{display:inline-block;font-weight:650;font-size:.95rem;padding:2px 12px;border-radius:99px;
margin:12px 8px 0 0;background:var(--midbg);color:var(--mid)}}
.badge.good{{background:var(--goodbg);color:var(--good)}}
.badge.bad{{background:var(--badbg);color:var(--bad)}}
.cards{{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;
margin:12px 0}}
.card{{background:var(--soft);border-radius:8px;padding:10px 14px}}
.card b{{display:block;font-size:1.45rem;line-height:1.3;font-weight:650}}
.card b small{{font-size:.85rem;font-weight:500;color:var(--dim)}}
.card span{{color:var(--dim);font-size:.85rem;display:block;line-height:1.4}}
ul.findings{{list-style:none;padding:0;margin:8px 0}}
ul.findings li{{border-left:3px solid var(--mid);padding:4px 12px;margin:8px 0}}
ul.findings li.error{{border-color:var(--bad)}}ul.findings li.info{{border-color:var(--rule)}}
code,.rule{{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:.86em}}
dl{{display:grid;grid-template-columns:minmax(90px,max-content) minmax(0,1fr);gap:3px 18px;
margin:10px 0}}
dt{{color:var(--dim)}}dd{{margin:0}}
.scroll{{overflow-x:auto;max-width:100%}}
table{{border-collapse:collapse;font-size:.88rem;width:100%;overflow-wrap:normal}}
th{{text-align:left;color:var(--dim);font-weight:550;vertical-align:bottom}}
th,td{{padding:5px 14px 5px 0;border-bottom:1px solid var(--rule)}}
th,td{{white-space:nowrap}}td{{vertical-align:top}}.n{{text-align:right}}
td.long{{white-space:normal;min-width:13em}}
.grid{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr));
gap:22px 24px}}
figure{{margin:10px 0;min-width:0}}figcaption{{font-weight:550;font-size:.92rem}}
.legend{{font-size:.82rem;color:var(--dim)}}.key{{margin-right:14px;white-space:nowrap}}
.key i{{display:inline-block;width:12px;height:3px;margin-right:5px;vertical-align:middle}}
details{{margin:6px 0}}summary{{cursor:pointer;color:var(--dim);font-size:.85rem}}
svg{{display:block;width:100%;height:auto;max-width:460px;margin-top:4px}}
svg text{{fill:var(--dim);font-size:12px}}
polyline{{fill:none;stroke-width:1.6;stroke-linejoin:round}}.b{{fill:var(--c0)}}.w{{fill:var(--dim);opacity:.13}}
{_SERIES}{_AREAS}{{opacity:.18}}.g{{stroke:var(--rule)}}.x,.t{{stroke:var(--dim)}}
@media print{{:root{{font-size:11px}}body{{font-size:1rem}}main{{max-width:none;padding:0}}
h2,h3{{break-after:avoid}}figure,.card,tr,li{{break-inside:avoid}}
svg{{max-width:380px}}.scroll{{overflow:visible}}table{{overflow-wrap:anywhere}}
th,td,td.long{{white-space:normal;min-width:0}}th{{overflow-wrap:break-word}}}}
"""
