/* Plays the pipeline given as arguments until its standard input ends, and prints a line for each buffer
 * that reaches a sink. A program as users write it: it installs no handler for any signal. */
#include <gst/gst.h>
#include <signal.h>
#include <stdio.h>

static GstPadProbeReturn
on_buffer (GstPad *pad, GstPadProbeInfo *info, gpointer name)
{
  (void) pad;
  (void) info;
  printf ("buffer at %s\n", (const char *) name);
  fflush (stdout);
  return GST_PAD_PROBE_OK;
}

static void
watch (const GValue *value, gpointer unused)
{
  GstElement *sink = g_value_get_object (value);
  GstPad *pad = gst_element_get_static_pad (sink, "sink");
  (void) unused;
  gst_pad_add_probe (pad, GST_PAD_PROBE_TYPE_BUFFER, on_buffer,
      gst_element_get_name (sink), g_free);
  gst_object_unref (pad);
}

int
main (int argc, char *argv[])
{
  GError *error = NULL;
  GstElement *pipeline;
  GstIterator *sinks;

  signal (SIGPIPE, SIG_DFL);
  gst_init (&argc, &argv);
  pipeline = gst_parse_launchv ((const gchar **) argv + 1, &error);
  if (error != NULL) {
    fprintf (stderr, "%s\n", error->message);
    return 2;
  }
  sinks = gst_bin_iterate_sinks (GST_BIN (pipeline));
  gst_iterator_foreach (sinks, watch, NULL);
  gst_iterator_free (sinks);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  while (getchar () != EOF)
    continue;
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (pipeline);
  printf ("ended in good order\n");
  return 0;
}
