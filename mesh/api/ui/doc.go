// Package ui is the dashboard that a peer shows at "/": the mesh, its sessions, the round that fills up, the chain of rounds and
// who agrees on them, what combiners report, and events as they happen.
//
// It is static. The page is assets/index.html, ES modules and a style sheet, embedded as they are: there is no build step, no framework,
// and nothing is loaded from anywhere else. The modules read the peer's JSON API and listen to its /v1/events:
//
//	app.js      what is shown: the state, what is fetched when, signing in
//	api.js      the peer's API and its stream of events
//	link.js     what is said of the connection
//	mesh.js     the verdict, the peers and the sessions
//	round.js    the open round as it fills up, and one round in full
//	chain.js    the rounds, a column each; one on which all agree is one block
//	plots.js    metrics over rounds, drawn by uPlot (assets/uplot, see VENDORED.md there)
//	events.js   the list of events
//	dom.js      making elements, words for numbers
//
// # Rules for its code
//
// Whatever comes from the API is hostile: it gets onto the page as text (textContent, attributes by name), never as markup. The
// Content-Security-Policy allows scripts and styles from this peer alone, nothing inline, and no assignment of strings to HTML
// (require-trusted-types-for), so a slip is an error and not a hole. Lists are windowed or cut off: 24 peers, 100 sessions, 10,000
// rounds and 500 combiners in one must stay usable. What colour says is also said by a word or a shape.
//
// # Use
//
//	http.Handle("/", ui.Handler())
//
// The files hold nothing secret, so they are served to everybody; what they show is not. When the API answers 401, the page asks for a token, posts it to
// /v1/login and goes on with the cookie that it gets.
//
// A Handler may be used from many goroutines at once.
package ui
