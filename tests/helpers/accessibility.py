"""What a page needs for keyboard, screen reader and weak eyes, checked in the browser."""

from playwright.sync_api import Page

_CHECK = """
() => {
  const found = [], seen = element => element.checkVisibility({visibilityProperty: true})
  const name = element => (element.getAttribute('aria-label') || element.textContent || element.alt
    || [...element.querySelectorAll('img[alt]')].map(image => image.alt).join('')).trim()
  const show = element => element.outerHTML.slice(0, 120)
  for (const landmark of ['header', 'nav', 'main', 'footer', 'h1'])
    if (document.querySelectorAll(landmark).length !== 1) found.push('not one ' + landmark)
  if (!document.documentElement.lang || !document.title) found.push('no language or title')
  for (const field of document.querySelectorAll('input:not([type=hidden]), select, textarea'))
    if (!field.labels.length) found.push('no label: ' + show(field))
  for (const element of document.querySelectorAll('a, button, summary'))
    if (!name(element)) found.push('no name: ' + show(element))
  for (const image of document.images) if (!image.hasAttribute('alt')) found.push('no alt: ' + show(image))
  const ids = [...document.querySelectorAll('[id]')].map(element => element.id)
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) found.push('twice: ' + id)
  for (const each of document.querySelectorAll('[aria-labelledby], [aria-describedby]'))
    for (const id of (each.getAttribute('aria-labelledby') || each.getAttribute('aria-describedby')).split(' '))
      if (!document.getElementById(id)) found.push('nothing has the id ' + id)
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
  const paint = colours => {  // lay colours over each other, as the browser does
    canvas.globalCompositeOperation = 'copy'
    for (const colour of colours) {
      canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); canvas.globalCompositeOperation = 'source-over'
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
  }
  const light = rgb => {
    const [r, g, b] = rgb.map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    return .2126 * r + .7152 * g + .0722 * b
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement
    if (!texts.currentNode.textContent.trim() || !seen(element) || element.closest('.hidden, .skip, option')) continue
    const layers = []
    for (let each = element; each; each = each.parentElement) layers.unshift(getComputedStyle(each).backgroundColor)
    layers.unshift(getComputedStyle(document.body).backgroundColor)
    const style = getComputedStyle(element), back = paint(layers), front = paint([...layers, style.color])
    const [high, low] = [light(front), light(back)].sort((a, b) => b - a), ratio = (high + .05) / (low + .05)
    const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.6 && style.fontWeight >= 600)
    if (ratio < (isLarge ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(1)}: ${show(element)}`)
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push('scrolls sideways')
  return [...new Set(found)]
}
"""


def find_barriers(page: Page) -> list[str]:
    """Return what is wrong: landmarks, labels, names, texts of photos, ids, contrast (WCAG AA), sideways scrolling."""
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    barriers: list[str] = page.evaluate(_CHECK)
    return barriers
