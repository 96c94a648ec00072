package check

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kubectl-validate/pkg/openapiclient"
	"sigs.k8s.io/kubectl-validate/pkg/validator"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const kubernetes = "1.30"

// TestKubernetes builds the manifests as kubectl does and holds each against the schema of the API, as the API server does.
func TestKubernetes(t *testing.T) {
	resources := build(t)
	v := schema(t)
	var kinds []string
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := check(v, text); err != nil {
			t.Errorf("%s: %v", r.CurId(), err)
		}
		kinds = append(kinds, r.GetKind())
		if r.GetKind() == "StatefulSet" {
			for what, spoil := range map[string][2]string{
				"a misspelt field":     {"serviceName:", "servicename:"},
				"a misspelt probe":     {"readinessProbe:", "readynessProbe:"},
				"a text for a number":  {"replicas: 3", "replicas: three"},
				"a field that is gone": {"selector:\n", "selectors:\n"},
			} {
				spoilt := strings.Replace(string(text), spoil[0], spoil[1], 1)
				if spoilt == string(text) {
					t.Fatalf("%s: nothing to spoil", what)
				}
				if check(v, []byte(spoilt)) == nil {
					t.Errorf("%s is not noticed", what)
				}
			}
		}
	}
	if got := fmt.Sprint(kinds); got != "[Namespace Service Service StatefulSet PodDisruptionBudget NetworkPolicy]" {
		t.Errorf("kinds %s", got)
	}
}

// TestKubernetesSelects looks whether the selectors find the pods, and the names meet.
func TestKubernetesSelects(t *testing.T) {
	label := "fedmesh"
	for _, r := range build(t).Resources() {
		m, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		u := unstructured.Unstructured{Object: m}
		if ns := u.GetNamespace(); ns != "fedmesh" && r.GetKind() != "Namespace" {
			t.Errorf("%s is in namespace %q", r.CurId(), ns)
		}
		for _, path := range map[string][][]string{
			"Service":             {{"spec", "selector"}},
			"StatefulSet":         {{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}},
			"PodDisruptionBudget": {{"spec", "selector", "matchLabels"}},
			"NetworkPolicy":       {{"spec", "podSelector", "matchLabels"}},
		}[r.GetKind()] {
			if got, _, _ := unstructured.NestedString(u.Object, append(path, "app.kubernetes.io/name")...); got != label {
				t.Errorf("%s: %s is %q, want %q", r.CurId(), strings.Join(path, "."), got, label)
			}
		}
		if r.GetKind() == "StatefulSet" {
			if got, _, _ := unstructured.NestedString(u.Object, "spec", "serviceName"); got != "fedmesh" {
				t.Errorf("serviceName %q", got)
			}
		}
	}
}

func build(t *testing.T) resmap.ResMap {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func schema(t *testing.T) *validator.Validator {
	t.Helper()
	v, err := validator.New(openapiclient.NewHardcodedBuiltins(kubernetes))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func check(v *validator.Validator, text []byte) error {
	_, obj, err := v.Parse(bytes.TrimSpace(text))
	if err != nil {
		return err
	}
	return v.Validate(obj)
}
