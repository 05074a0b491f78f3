"""Scripts of our pages, as HTML for viser."""


def run_script(code: str) -> str:
    """HTML that runs code without double quotes. Scripts in viser's HTML do not run, but handlers do."""
    return f'<img hidden alt="" src="data:," onerror="{code}">'


# Names of fields for people who have the page read to them. viser labels some fields, but neither text of several lines
# nor sliders, nor the numbers beside them: those get the text of their row.
LABELS = run_script("""
const name = () => document.querySelectorAll('textarea, input:not([type=hidden]), [role=slider]').forEach(field => {
  let row = field;
  while (row && !row.querySelector('p')) row = row.parentElement;
  const texts = row?.querySelectorAll('p') ?? [];
  if (texts.length == 1 && !field.labels?.length && !field.ariaLabel) field.ariaLabel = texts[0].textContent;
});
new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
name();
""")
