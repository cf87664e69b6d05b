/**
 * One paint per animation frame, however many events came in between. A page that is hidden or covered gets few frames or
 * none; a timer stands behind them, so that title and transcript are right when somebody looks.
 */

const LATEST_MS = 200;

/**
 * @param {() => void} paint
 * @returns {() => void} asks for a paint; asking again before it happened changes nothing
 */
export function painter(paint) {
  let frame = 0;
  let timer = 0;
  const run = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = timer = 0;
    paint();
  };
  return () => {
    if (timer) return;
    frame = requestAnimationFrame(run);
    timer = setTimeout(run, LATEST_MS);
  };
}
