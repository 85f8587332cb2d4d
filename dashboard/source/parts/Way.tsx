// The way of a request: entry points, router, middlewares, service, drawn as a path.

import { to } from "../route";
import type { Router } from "../told";

export function Way({ router, up, servers }: { router: Router; up?: number; servers?: number }) {
  const qualified = (name: string) => (name.includes("@") ? name : `${name}@${router.provider}`);
  const points = router.using ?? [];
  return (
    <ol class={`way ${router.status}`} aria-label={`The way of a request through ${router.name}`}>
      <li class={points.length ? "entry" : "entry missing"}>
        <small>entry point</small>
        <span>{points.join(", ") || "none"}</span>
      </li>
      {(router.middlewares ?? []).map((name) => (
        <li key={name} class="middleware">
          <small>middleware</small>
          <a href={to("middlewares", "", "", { search: name })}>{name.replace(/@.*/, "")}</a>
        </li>
      ))}
      <li class="service">
        <small>service</small>
        <a href={to("services", qualified(router.service))}>{router.service}</a>
      </li>
      {servers !== undefined && (
        <li class={up === servers && servers ? "servers" : "servers missing"}>
          <small>servers</small>
          <span>{up} of {servers} up</span>
        </li>
      )}
    </ol>
  );
}
