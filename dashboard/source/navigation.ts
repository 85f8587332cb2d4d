// The pages that the navigation has, in its order.

export const PAGES = [
  { name: "overview", title: "Overview", icon: "M3 13h4l3-8 4 14 3-6h4" },
  { name: "routers", title: "Routers", icon: "M3 12h6m0 0 5-6h7m-12 6 5 6h7M18 3l3 3-3 3m0 6 3 3-3 3" },
  { name: "services", title: "Services", icon: "M4 4h16v6H4zm0 10h16v6H4zM8 7h.01M8 17h.01" },
  { name: "swarm", title: "Swarm", icon: "m12 3 4 2.3v4.6l-4 2.3-4-2.3V5.3zM7 12.7l4 2.3v4l-4 2-4-2v-4zm10 0 4 2.3v4l-4 2-4-2v-4z" },
  { name: "middlewares", title: "Middlewares", icon: "M4 7h9m5 0h2M4 17h2m5 0h9M15.5 4.5v5m-7 5v5" },
  { name: "certificates", title: "Certificates", icon: "M12 3 5 6v5c0 4.5 3 8 7 10 4-2 7-5.5 7-10V6zm-3 9 2 2 4-4" },
  { name: "changes", title: "Changes", icon: "M12 7v5l3 2m6-2a9 9 0 1 1-3-6.7M21 3v4h-4" },
  { name: "why", title: "Why?", icon: "M9 9a3 3 0 1 1 4 2.8c-.7.3-1 .8-1 1.7m0 3h.01M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0" },
] as const;

export const FIRST = 4; // So many are in the bar of a phone; the others behind "More".
