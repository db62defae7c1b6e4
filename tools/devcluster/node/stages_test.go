package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kwok/pkg/utils/lifecycle"
)

// Of every pod at most one stage comes next.
func TestStages(t *testing.T) {
	t.Parallel()
	stages, err := loadStages()
	if err != nil {
		t.Fatal(err)
	}
	job := []metav1.OwnerReference{{Kind: "Job"}}
	app := func(tag string) []corev1.Container {
		return []corev1.Container{{Name: "app", Image: "example.com/app:" + tag}}
	}
	meshed := append(app("1"), corev1.Container{Name: "linkerd-proxy", Image: "example.com/proxy:1"})
	running := corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	ended := corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}
	proxy := corev1.ContainerStatus{Name: "linkerd-proxy", State: running.State}
	for name, test := range map[string]struct {
		owners   []metav1.OwnerReference
		spec     corev1.PodSpec
		phase    corev1.PodPhase
		statuses []corev1.ContainerStatus
		want     string
	}{
		"new":                           {spec: corev1.PodSpec{Containers: app("1")}, phase: corev1.PodPending, want: "pod-ready"},
		"running":                       {spec: corev1.PodSpec{Containers: app("1")}, phase: corev1.PodRunning, statuses: []corev1.ContainerStatus{running}},
		"without its image":             {spec: corev1.PodSpec{Containers: app("does-not-exist")}, phase: corev1.PodPending, want: "pod-image-missing"},
		"without its init image":        {spec: corev1.PodSpec{InitContainers: app("does-not-exist"), Containers: app("fails")}, phase: corev1.PodPending, want: "pod-image-missing"},
		"that fails":                    {spec: corev1.PodSpec{Containers: app("fails")}, phase: corev1.PodPending, want: "pod-fail"},
		"that is restarted":             {owners: job, spec: corev1.PodSpec{Containers: app("fails")}, phase: corev1.PodRunning, statuses: []corev1.ContainerStatus{{Name: "app"}}},
		"of a Job":                      {owners: job, spec: corev1.PodSpec{Containers: app("1")}, phase: corev1.PodRunning, statuses: []corev1.ContainerStatus{running}, want: "pod-complete"},
		"of a Job, done":                {owners: job, spec: corev1.PodSpec{Containers: app("1")}, phase: corev1.PodSucceeded, statuses: []corev1.ContainerStatus{ended}},
		"of a Job with a sidecar":       {owners: job, spec: corev1.PodSpec{Containers: meshed}, phase: corev1.PodRunning, statuses: []corev1.ContainerStatus{running, proxy}, want: "pod-sidecar-stays"},
		"of a Job with a sidecar alone": {owners: job, spec: corev1.PodSpec{Containers: meshed}, phase: corev1.PodRunning, statuses: []corev1.ContainerStatus{ended, proxy}},
		"of a Deployment with a sidecar": {
			spec: corev1.PodSpec{Containers: meshed}, phase: corev1.PodRunning, statuses: []corev1.ContainerStatus{running, proxy},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "pod", OwnerReferences: test.owners},
				Spec:       test.spec,
				Status:     corev1.PodStatus{Phase: test.phase, ContainerStatuses: test.statuses},
			}
			matched, err := stages.ListAllPossible(t.Context(), &lifecycle.Event{Data: pod})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, stage := range matched {
				got = append(got, stage.Name())
			}
			if len(got) > 1 || (test.want == "") != (len(got) == 0) || (len(got) == 1 && got[0] != test.want) {
				t.Errorf("stages %v, want %q", got, test.want)
			}
		})
	}
}
