// What every page begins with.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { route } from "../route";

interface Props {
  title: string;
  about?: ComponentChildren;
  acts?: ComponentChildren;
  up?: { text: string; href: string };
}

export function Head({ title, about, acts, up }: Props) {
  useEffect(() => { document.title = `${title} – swarmgate`; }, [title]);
  return (
    <div class="head">
      <div>
        {up && <a class="up" href={up.href}>← {up.text}</a>}
        <h1>{title}</h1>
        {about && <div class="about">{about}</div>}
      </div>
      {acts}
    </div>
  );
}

// Says on the element main that the page is there, whole.
export function useDrawn(done: boolean): void {
  useEffect(() => {
    if (done) document.getElementById("main")!.dataset.page = route.peek().page;
  }, [done]);
}
