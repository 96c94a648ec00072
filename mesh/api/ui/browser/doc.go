// Package browser tests the dashboard in real headless Chromium. It is a module of its own: nothing else needs a browser.
//
//	make test-ui                                    # from the top of the repository
//	go test ./... -args -shots DIR                  # here; screenshots stay in DIR
//	CHROME=/path/to/chromium go test ./...
//
// Without a browser the tests fail: there is nothing here that they could test instead.
//
// Two kinds of tests: against a real mesh of three processes, one of which is killed and started again (TestMesh), and against made-up
// answers of the API, for what a small mesh does not show: divergence, names with markup in them, tens of thousands of rounds, signing in.
// Both check the page with axe-core (testdata, see VENDORED.md there) and want a console without errors.
package browser
