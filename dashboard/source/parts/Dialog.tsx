// A dialog of the browser's own: it keeps the focus inside, and Escape closes it.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

interface Props {
  title: string;
  close: () => void;
  children: ComponentChildren;
}

export function Dialog({ title, close, children }: Props) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    const dialog = box.current!;
    dialog.showModal();
    dialog.querySelector<HTMLElement>("[data-first]")?.focus();
    return () => before?.focus(); // What has opened it gets the focus back.
  }, []);
  return (
    <dialog ref={box} aria-label={title} onClose={close}>
      <div class="top">
        <h2>{title}</h2>
        <button type="button" onClick={() => box.current!.close()}>Close</button>
      </div>
      {children}
    </dialog>
  );
}
