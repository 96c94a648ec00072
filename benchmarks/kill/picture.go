package main

func (r *Report) pictures() map[string][]byte { return nil }
