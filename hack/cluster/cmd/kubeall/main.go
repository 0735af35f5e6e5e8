// Command kubeall is the whole control plane of the end-to-end tests in one binary: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and kubectl, linked from ordinary Go modules. One binary is a fifth of the
// size of five, because the five share nearly all of their packages.
//
// The component is chosen by the base name of argv[0], so that symlinks named after the components make a directory
// that any tool takes as KUBEBUILDER_ASSETS; called as kubeall, by the first argument.
//
// Two rules keep one binary safe. A process builds exactly one component: each constructor registers the
// process-global feature gates and the effective version of component "kube", and a second one would clash with the
// first. And nothing here adds a flag of its own to the command line that the components parse.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // CronJobs name time zones, and the machine may have no zone files

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"

	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const etcd = "etcd"

// The values are closures, so that only the component that is asked for is built.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          func() *cobra.Command { return apiserver.NewAPIServerCommand() },
	"kube-controller-manager": func() *cobra.Command { return controllermanager.NewControllerManagerCommand() },
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 func() *cobra.Command { return kubectl.NewDefaultKubectlCommand() },
}

func main() {
	args := os.Args
	args[0] = filepath.Base(args[0])
	if !known(args[0]) && len(args) > 1 {
		args = args[1:]
	}
	if !known(args[0]) {
		names := []string{etcd}
		for name := range components {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "usage: kubeall COMPONENT [flags], or through a symlink of that name\ncomponents: %s\n",
			strings.Join(names, ", "))
		os.Exit(2)
	}
	// Flag parsing and kubectl's plugin lookup read os.Args: they must see a direct call of the component.
	os.Args = args
	if args[0] == etcd {
		etcdmain.Main(args)
		return
	}
	os.Exit(cli.Run(components[args[0]]()))
}

func known(name string) bool {
	return name == etcd || components[name] != nil
}
