/**
 * Keeps the newest in sight, but only for those who are looking at it: who scrolled up is left where they are.
 */

const NEAR_PX = 48;

/**
 * @param {HTMLElement} scroller
 * @param {HTMLElement} content
 * @param {HTMLButtonElement} button offered while the newest is out of sight
 */
export function follow(scroller, content, button) {
  let following = true;
  let lastTop = 0;
  const below = () => scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
  const toEnd = () => {
    scroller.scrollTop = scroller.scrollHeight;
    lastTop = scroller.scrollTop;
  };
  const keep = () => {
    if (following) toEnd();
    button.hidden = following || below() < NEAR_PX;
  };
  scroller.addEventListener(
    "scroll",
    () => {
      if (below() < NEAR_PX) following = true;
      else if (scroller.scrollTop < lastTop) following = false;
      lastTop = scroller.scrollTop;
      button.hidden = below() < NEAR_PX;
    },
    { passive: true },
  );
  const sizes = new ResizeObserver(keep);
  sizes.observe(content);
  sizes.observe(scroller);
  const start = () => {
    following = true;
    keep();
  };
  button.addEventListener("click", start);
  return {
    /** From here on the newest is followed again. */
    start,
    /**
     * Changes the messages without moving the one that is being read.
     *
     * @param {HTMLElement} list
     * @param {() => void} change
     */
    holding(list, change) {
      const held = following ? undefined : firstInSight(scroller, list);
      const before = held?.getBoundingClientRect().top ?? 0;
      change();
      if (!held?.isConnected) return;
      scroller.scrollTop += held.getBoundingClientRect().top - before;
      lastTop = scroller.scrollTop;
    },
  };
}

/**
 * @param {HTMLElement} scroller
 * @param {HTMLElement} list
 */
function firstInSight(scroller, list) {
  const top = scroller.getBoundingClientRect().top;
  return [...list.children].find((child) => child.getBoundingClientRect().bottom > top);
}
