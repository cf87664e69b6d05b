/**
 * The public surface of `sightline-client`.
 */

export { createApi } from "./api.js";
export { backoff } from "./backoff.js";
export { connection, deadlineOf, phaseOf } from "./connection.js";
export { fold, foldAll, statusOf } from "./fold.js";
export { ProblemError, UnreachableError } from "./problems.js";
export { SessionClient, connectSession } from "./session.js";
export { Sessions, openSessions } from "./sessions.js";
export { step } from "./step.js";
export { webStorageKeeper } from "./storage.js";
