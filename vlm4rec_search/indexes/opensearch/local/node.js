// Runs one node under Rhino. The command line of OpenSearchRunner takes no settings, so this script passes them.
var given = JSON.parse(arguments[0]);
var runner = new Packages.org.codelibs.opensearch.runner.OpenSearchRunner();
runner.onBuild(function (number, builder) {
  for (var name in given.settings) {
    var value = given.settings[name];
    if (Array.isArray(value)) builder.putList(name, java.util.Arrays.asList(value));
    else builder.put(name, value);
  }
});
java.lang.Runtime.getRuntime().addShutdownHook(new java.lang.Thread(function () { runner.close(); }));
runner.build(given.options);
java.lang.Thread.currentThread().join();
